//! The real file system.

use super::super::files::DiskFiles;
use super::*;

#[test]
fn a_journal_on_disk_is_found_again_and_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        reserve_bytes: 1 << 16,
        ..OPTIONS
    };
    let files = || DiskFiles::open(directory.path()).map(Arc::new);
    let mut expected = Vec::new();
    for epoch in 1..4 {
        let opened = files().unwrap();
        assert_eq!(files().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let (mut writer, reader) = open(opened, options, epoch).unwrap();
        for n in 0..30 {
            let entries = [message(&format!("t/{n}"), b"payload"), released(7)];
            let offset = writer.append(&entries).unwrap();
            writer.sync().unwrap();
            writer.maintain();
            expected.extend((offset.0..).map(Offset).zip(entries));
        }
        assert_eq!(replayed(&reader), expected);
        let middle = expected[expected.len() / 2].0;
        assert!(writer.trim(middle).unwrap() > 0);
        expected.retain(|(offset, _)| *offset >= reader.start());
        assert_eq!(replayed(&reader), expected);
    }
}
