//! How many sessions there were over time, for bills: one line of JSON per interval, in files that do not grow without
//! end.
//!
//! Owns: the files, their size, the intervals. Does not know: where the counts come from.
//!
//! Invariants: a line is written once and never changed; both files together are no longer than `bytes_max` and one line;
//! what is torn by a crash is skipped by readers. A crash of the broker loses the interval under way, nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use outlive_actors::durable::make_directory;
use outlive_actors::model::ids::Timestamp;
use outlive_actors::model::quota::{Interval, QuotaReport};
use serde::{Deserialize, Serialize};

/// The file that is written to, and the one before.
const FILE: &str = "sessions.jsonl";
const FILE_BEFORE: &str = "sessions.1.jsonl";

/// What sessions used in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageLine {
    /// When it began, in seconds of Unix time.
    pub from: u64,
    /// When it ended.
    pub to: u64,
    /// The least sessions at any moment: exact.
    pub min: u64,
    /// The most sessions at any moment: exact.
    pub max: u64,
    /// The mean of one look per second.
    pub avg: f64,
    /// The limit at the end; 0 = none.
    pub sessions_max: u64,
    /// Newcomers refused, whatever the limit.
    pub refused: u64,
    /// Principals: those with a limit of their own, and the largest others.
    pub principals: Vec<PrincipalUsage>,
    /// Sessions of all other principals at the end.
    pub other_principals: u64,
}

/// What one principal used in an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalUsage {
    /// Its name; empty for clients without one.
    pub name: String,
    /// Sessions at the end.
    pub used: u64,
    /// The most sessions at any moment.
    pub max: u64,
}

/// The files.
#[derive(Debug)]
pub struct UsageFiles {
    dir: PathBuf,
    bytes_max: u64,
}

impl UsageFiles {
    /// In the directory `usage` of `data_dir`, which is made when something is written.
    pub fn new(data_dir: &Path, bytes_max: u64) -> Self {
        Self {
            dir: data_dir.join("usage"),
            bytes_max,
        }
    }

    /// Writes a line; durable on return.
    ///
    /// # Errors
    /// If the disk refuses. Then readers skip what may be there of the line.
    pub fn append(&self, line: &UsageLine) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        make_directory(&self.dir)?;
        let path = self.dir.join(FILE);
        let mut file = open(&path)?;
        let mut length = file.seek(SeekFrom::End(0))?;
        if length > 0 && length + text.len() as u64 > self.bytes_max / 2 {
            drop(file);
            fs::rename(&path, self.dir.join(FILE_BEFORE))?;
            file = open(&path)?;
            length = 0;
        }
        if length > 0 && !ends_with_newline(&mut file)? {
            text.insert(0, b'\n'); // a crash tore the line before
        }
        file.write_all(&text)?;
        file.sync_data()?;
        match length {
            0 => File::open(&self.dir)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// The lines of intervals that end after `from` and begin before `to`, oldest first, at most `lines_max`.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn read(&self, from: u64, to: u64, lines_max: usize) -> io::Result<Vec<UsageLine>> {
        let mut found = Vec::new();
        for name in [FILE_BEFORE, FILE] {
            let file = match File::open(self.dir.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for text in BufReader::new(file).split(b'\n') {
                let Ok(line) = serde_json::from_slice::<UsageLine>(&text?) else {
                    continue;
                };
                if line.to > from && line.from < to {
                    if found.len() == lines_max {
                        return Ok(found);
                    }
                    found.push(line);
                }
            }
        }
        Ok(found)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The interval under way.
#[derive(Debug)]
pub(super) struct Meter {
    interval_millis: u64,
    began: Timestamp,
    looks: u64,
    sum: u64,
    refused_before: u64,
}

impl Meter {
    /// Counts from `now` on. Intervals end at whole multiples of `interval_seconds`, so that bills of all brokers fit.
    pub(super) fn new(interval_seconds: u32, now: Timestamp, refused: u64) -> Self {
        Self {
            interval_millis: u64::from(interval_seconds) * 1000,
            began: now,
            looks: 0,
            sum: 0,
            refused_before: refused,
        }
    }

    /// One look, about once per second; whether the interval is over.
    pub(super) fn look(&mut self, now: Timestamp, used: u64) -> bool {
        self.looks += 1;
        self.sum += used;
        now.0 / self.interval_millis > self.began.0 / self.interval_millis
    }

    /// What was used up to `now`; the next interval begins.
    pub(super) fn end(&mut self, now: Timestamp, used: &Used) -> UsageLine {
        let began = std::mem::replace(&mut self.began, now);
        let (looks, sum) = (
            std::mem::take(&mut self.looks),
            std::mem::take(&mut self.sum),
        );
        let refused = used.refused.saturating_sub(self.refused_before);
        self.refused_before = used.refused;
        UsageLine {
            from: began.0 / 1000,
            to: now.0 / 1000,
            min: used.interval.min,
            max: used.interval.max,
            avg: mean(sum, looks),
            sessions_max: used.sessions_max,
            refused,
            principals: used
                .report
                .principals
                .iter()
                .map(|known| PrincipalUsage {
                    name: known.name.as_str().to_owned(),
                    used: known.used,
                    max: known.high,
                })
                .collect(),
            other_principals: used.report.others,
        }
    }
}

/// What the quota says at the end of an interval.
#[derive(Debug)]
pub(super) struct Used {
    /// The least and the most.
    pub(super) interval: Interval,
    /// The limit.
    pub(super) sessions_max: u64,
    /// Refusals since the start.
    pub(super) refused: u64,
    /// Who used how much.
    pub(super) report: QuotaReport,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean has no more than 53 bits"
)]
fn mean(sum: u64, looks: u64) -> f64 {
    if looks == 0 {
        return 0.0;
    }
    // Three decimals are enough for a bill.
    (sum as f64 / looks as f64 * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use outlive_actors::model::quota::PrincipalUse;

    use super::*;

    fn line(from: u64) -> UsageLine {
        UsageLine {
            from,
            to: from + 10,
            min: 1,
            max: 3,
            avg: 2.5,
            sessions_max: 100,
            refused: 7,
            principals: vec![PrincipalUsage {
                name: "tenant \"a\"\n".to_owned(),
                used: 1,
                max: 2,
            }],
            other_principals: 4,
        }
    }

    #[test]
    fn lines_are_found_again_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = UsageFiles::new(dir.path(), 1 << 20);
        assert_eq!(files.read(0, u64::MAX, 9).unwrap(), []);
        for at in [0, 10, 20, 30] {
            files.append(&line(at)).unwrap();
        }
        assert_eq!(files.read(10, 30, 9).unwrap(), [line(10), line(20)]);
        assert_eq!(files.read(0, u64::MAX, 1).unwrap(), [line(0)]);
    }

    #[test]
    fn the_files_stay_within_their_size_and_the_newest_lines_stay() {
        let dir = tempfile::tempdir().unwrap();
        let bytes_max = 2_000;
        let files = UsageFiles::new(dir.path(), bytes_max);
        for at in 0..100 {
            files.append(&line(at * 10)).unwrap();
        }
        let bytes: u64 = fs::read_dir(dir.path().join("usage"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= bytes_max, "{bytes}");
        let kept = files.read(0, u64::MAX, 1000).unwrap();
        assert!(kept.len() > 3, "{}", kept.len());
        assert_eq!(kept.last(), Some(&line(990)));
        assert!(kept.windows(2).all(|pair| pair[0].to == pair[1].from));
    }

    #[test]
    fn a_line_that_a_crash_tore_is_skipped_and_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let files = UsageFiles::new(dir.path(), 1 << 20);
        files.append(&line(0)).unwrap();
        let path = dir.path().join("usage").join(FILE);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        files.append(&line(10)).unwrap();
        assert_eq!(files.read(0, u64::MAX, 9).unwrap(), [line(0), line(10)]);
    }

    #[test]
    fn an_interval_ends_at_a_whole_multiple_and_knows_its_mean() {
        let mut meter = Meter::new(10, Timestamp(3_000), 5);
        assert!(!meter.look(Timestamp(4_000), 1));
        assert!(!meter.look(Timestamp(9_999), 2));
        assert!(meter.look(Timestamp(10_200), 2));
        let used = |refused| Used {
            interval: Interval { min: 1, max: 9 },
            sessions_max: 10,
            refused,
            report: QuotaReport {
                principals: vec![PrincipalUse {
                    used: 1,
                    high: 4,
                    limit: 0,
                    name: "a".into(),
                }],
                others: 3,
                ..QuotaReport::default()
            },
        };
        let first = meter.end(Timestamp(10_200), &used(8));
        assert_eq!((first.from, first.to), (3, 10));
        assert_eq!((first.min, first.max, first.avg), (1, 9, 1.667));
        assert_eq!((first.refused, first.other_principals), (3, 3));
        assert_eq!((first.principals[0].used, first.principals[0].max), (1, 4));
        assert!(!meter.look(Timestamp(10_300), 7));
        assert_eq!(meter.end(Timestamp(20_000), &used(8)).refused, 0);
    }
}
