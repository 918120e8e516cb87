//! The text of one level of a filter.
//!
//! Short texts, which nearly all are, lie in place: a look-up compares them without another step through memory.

/// Texts of up to so many bytes lie in place.
const SHORT_MAX: usize = 22;

/// A level's text.
#[derive(Debug)]
pub(super) enum Level {
    /// The first `len` bytes.
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    /// One that does not fit.
    Long(Box<[u8]>),
}

impl Level {
    /// The text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Bytes that do not lie in place.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl From<&str> for Level {
    fn from(text: &str) -> Self {
        let mut short = [0; SHORT_MAX];
        match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes: short }
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whether_it_lies_in_place_or_not() {
        for len in [0, 1, SHORT_MAX, SHORT_MAX + 1, 255, 256, 65_535] {
            let text = "x".repeat(len);
            let level = Level::from(&*text);
            assert_eq!(level.as_bytes(), text.as_bytes());
            assert_eq!(level.heap_bytes(), if len > SHORT_MAX { len } else { 0 });
        }
        assert_eq!(size_of::<Level>(), 24);
    }
}
