//! Seeds that once failed, by the story that they told.
