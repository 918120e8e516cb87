//! A Bloom filter over the topics of one segment: most lookups of a topic that is not there end here.

const BITS_PER_TOPIC: u64 = 10;
const PROBES: u64 = 7;

/// Knows for sure which topics are not there.
#[derive(Debug)]
pub(super) struct Bloom {
    pub(super) words: Vec<u64>,
}

impl Bloom {
    pub(super) fn with_topics(topics: u64) -> Self {
        let words = (topics * BITS_PER_TOPIC).div_ceil(64).max(1);
        Self {
            words: vec![0; usize::try_from(words).unwrap_or(usize::MAX)],
        }
    }

    pub(super) fn insert(&mut self, topic: &str) {
        for bit in bits(topic, self.words.len()) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(super) fn may_contain(&self, topic: &str) -> bool {
        bits(topic, self.words.len()).all(|bit| self.words[bit / 64] & (1 << (bit % 64)) != 0)
    }
}

fn bits(topic: &str, words: usize) -> impl Iterator<Item = usize> + use<> {
    // FNV-1a, mixed; two halves make all probes.
    let mut hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let step = (hash >> 32) | 1;
    let count = words as u64 * 64;
    #[expect(clippy::cast_possible_truncation, reason = "below the number of bits")]
    (0..PROBES).map(move |probe| (hash.wrapping_add(probe.wrapping_mul(step)) % count) as usize)
}
