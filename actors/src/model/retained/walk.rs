//! Where in a sorted set of topics the next match of a filter can lie.
//!
//! Topics are in byte order, and `/` is a byte like any other: `a-b` lies between `a` and `a/b`. What holds is that
//! all texts with one prefix are neighbours, and that `0` is the byte after `/`: below `x/` nothing is left at `x0`.

use smallvec::SmallVec;

/// What to do after looking at a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It matches; go on with the next.
    Match,
    /// It does not match, but the next may.
    Step,
    /// It does not match, nor does anything before [`Walk::target`].
    Leap,
    /// Nothing from here on matches.
    End,
}

/// A filter's walk through sorted topics.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    levels: SmallVec<[&'a str; 16]>,
    target: String,
}

impl<'a> Walk<'a> {
    /// A walk whose target is the smallest text that `filter` could match.
    pub(super) fn new(filter: &'a str) -> Self {
        let mut walk = Self {
            levels: filter.split('/').collect(),
            target: String::new(),
        };
        walk.aim("", 0);
        walk
    }

    /// Where the next match can lie at the earliest: at first, and after [`Verdict::Leap`].
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Looks at one topic.
    pub(super) fn judge(&mut self, topic: &str) -> Verdict {
        if topic.starts_with('$') && matches!(self.levels[0], "+" | "#") {
            // [MQTT-4.7.2-1]; `%` is the byte after `$`.
            return self.leap(&["%"]);
        }
        let mut start = 0;
        // The end of the last level that a `+` matched and that has levels below it.
        let mut open = None;
        for at in 0..self.levels.len() {
            let level = self.levels[at];
            if level == "#" {
                return Verdict::Match;
            }
            if start > topic.len() {
                return self.too_short(topic, at);
            }
            let end = topic[start..].find('/').map_or(topic.len(), |n| start + n);
            if level == "+" {
                if end < topic.len() {
                    open = Some(end);
                }
            } else if topic[start..end] != *level {
                return self.differs(topic, start, at, open);
            }
            start = end + 1;
        }
        if start > topic.len() {
            Verdict::Match
        } else {
            self.pass(topic, open)
        }
    }

    /// The topic ended before level `at` of the filter.
    fn too_short(&mut self, topic: &str, at: usize) -> Verdict {
        if self.levels[at - 1] == "+" {
            // A longer name at this level may be next.
            return Verdict::Step;
        }
        self.target.clear();
        self.target.push_str(topic);
        self.target.push('/');
        self.push_literals(at);
        Verdict::Leap
    }

    /// The topic's level that begins at `start` is not the literal at level `at` of the filter.
    fn differs(&mut self, topic: &str, start: usize, at: usize, open: Option<usize>) -> Verdict {
        self.aim(&topic[..start], at);
        if self.target.as_str() > topic {
            return Verdict::Leap;
        }
        if self.levels.get(at + 1) == Some(&"#") {
            // `a/#` matches `a`, which the topic (`a-`, say) has passed, and what lies below `a/`.
            self.target.push('/');
            if self.target.as_str() > topic {
                return Verdict::Leap;
            }
        }
        self.pass(topic, open)
    }

    /// Nothing more matches below the name that the last open `+` stands for: on to the next name there.
    fn pass(&mut self, topic: &str, open: Option<usize>) -> Verdict {
        match open {
            Some(end) => self.leap(&[&topic[..end], "0"]),
            None => Verdict::End,
        }
    }

    fn leap(&mut self, parts: &[&str]) -> Verdict {
        self.target.clear();
        self.target.extend(parts.iter().copied());
        Verdict::Leap
    }

    /// Sets the target to the smallest text with `prefix` that could match from level `at` on.
    fn aim(&mut self, prefix: &str, at: usize) {
        self.target.clear();
        self.target.push_str(prefix);
        self.push_literals(at);
    }

    fn push_literals(&mut self, at: usize) {
        for (n, level) in self.levels[at..].iter().enumerate() {
            if *level == "#" {
                return;
            }
            if n > 0 {
                self.target.push('/');
            }
            if *level == "+" {
                return;
            }
            self.target.push_str(level);
        }
    }
}
