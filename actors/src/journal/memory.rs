//! A file system in memory that can be crashed: the double of [`super::files::DiskFiles`] for tests and simulations.
//!
//! Owns: a *live* image (what the running process sees) and a *durable* image (what a power cut certainly leaves).
//! Between the two lie pending operations; [`MemoryFiles::crash`] decides by a seed which of them reached the disk. Does
//! not know: what the bytes mean.
//!
//! Invariants:
//! - only a sync makes bytes durable, and only what was pending at that moment;
//! - a failed sync leaves any part of the pending bytes durable and forgets the rest: a later sync does not bring it back.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{File, Files};

/// A torn write loses whole sectors of this size.
const SECTOR_BYTES: usize = 512;

/// A directory in memory. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    space_bytes: Option<u64>,
    failing_syncs: u32,
    failing_removals: u32,
    operations_left: Option<u64>,
    random: Random,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
}

impl MemoryFiles {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// What would be found after a power cut now: all that was synced, and of the rest what the seed decides, every file
    /// for itself.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let disk = self.disk.lock();
        let mut random = Random(seed);
        let mut names = disk.durable.clone();
        let survived = random.below(disk.pending.len() + 1);
        for change in &disk.pending[..survived] {
            change.apply(&mut names);
        }
        let mut after = Disk::default();
        for (name, inode) in names {
            let mut bytes = disk.inodes[inode].durable.clone();
            tear(&disk.inodes[inode].pending, &mut bytes, &mut random);
            after.put(&name, bytes);
        }
        after.random = random;
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// What would be found after the process was killed now: all that was written.
    #[must_use]
    pub fn kill(&self) -> Self {
        let disk = self.disk.lock();
        let mut after = Disk::default();
        for (name, inode) in &disk.live {
            after.put(name, disk.inodes[*inode].live.clone());
        }
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// Limits the space that all files together may take; `None` lifts the limit.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.disk.lock().space_bytes = bytes;
    }

    /// Bytes that all files take.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used_bytes()
    }

    /// Lets the next `count` syncs of files fail.
    pub fn fail_syncs(&self, count: u32) {
        self.disk.lock().failing_syncs = count;
    }

    /// Lets the next `count` removals of files fail.
    pub fn fail_removals(&self, count: u32) {
        self.disk.lock().failing_removals = count;
    }

    /// Cuts the power after `operations` more changing operations: later ones fail and change nothing.
    pub fn cut_power_after(&self, operations: u64) {
        self.disk.lock().operations_left = Some(operations);
    }

    /// The live bytes of a file.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        let inode = disk.live.get(name)?;
        Some(disk.inodes[*inode].live.clone())
    }

    /// Puts a file there, durable, replacing one of that name: to plant damage.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        self.disk.lock().put(name, bytes.to_vec());
    }

    fn handle(&self, inode: usize) -> Arc<dyn File> {
        Arc::new(MemoryFile {
            disk: self.disk.clone(),
            inode,
        })
    }
}

impl Files for MemoryFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk.lock().live.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        let inode = disk.create(name);
        drop(disk);
        Ok(self.handle(inode))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let disk = self.disk.lock();
        let inode = disk.live.get(name).copied();
        drop(disk);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(inode))
    }

    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        let inode = disk.create(name);
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        disk.write(inode, 0, &zeros)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        if disk.failing_removals > 0 {
            disk.failing_removals -= 1;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        disk.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.pending.push(NameChange::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        for change in std::mem::take(&mut disk.pending) {
            change.apply(&mut disk.durable);
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("memory/{name}")
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
}

impl File for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].live.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let disk = self.disk.lock();
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at.saturating_add(buffer.len());
        let bytes = disk.inodes[self.inode].live.get(at..end);
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        disk.write(self.inode, at, bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        disk.change(self.inode, Change::Truncate(bytes));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate()?;
        let disk = &mut *disk;
        let Inode {
            durable, pending, ..
        } = &mut disk.inodes[self.inode];
        let pending = std::mem::take(pending);
        if disk.failing_syncs > 0 {
            disk.failing_syncs -= 1;
            tear(&pending, durable, &mut disk.random);
            return Err(io::Error::other("input/output error"));
        }
        for change in &pending {
            change.apply(durable);
        }
        Ok(())
    }
}

impl Disk {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        let lengths = self
            .live
            .values()
            .map(|inode| self.inodes[*inode].live.len() as u64);
        lengths.sum()
    }

    fn create(&mut self, name: &str) -> usize {
        if let Some(inode) = self.live.get(name).copied() {
            self.change(inode, Change::Truncate(0));
            return inode;
        }
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.live.insert(name.to_owned(), inode);
        self.pending.push(NameChange::Link(name.to_owned(), inode));
        inode
    }

    fn put(&mut self, name: &str, bytes: Vec<u8>) {
        let inode = self.inodes.len();
        self.inodes.push(Inode {
            live: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        });
        self.live.insert(name.to_owned(), inode);
        self.durable.insert(name.to_owned(), inode);
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.inodes[inode];
        change.apply(&mut inode.live);
        inode.pending.push(change);
    }

    fn write(&mut self, inode: usize, at: usize, bytes: &[u8]) -> io::Result<()> {
        let length = self.inodes[inode].live.len();
        let growth = (at + bytes.len()).saturating_sub(length);
        let room = self.space_bytes.map_or(growth, |space| {
            usize::try_from(space.saturating_sub(self.used_bytes())).unwrap_or(usize::MAX)
        });
        let fits = bytes.len() - growth.saturating_sub(room).min(bytes.len());
        let change = Change::Write {
            at,
            bytes: bytes[..fits].to_vec(),
        };
        self.change(inode, change);
        match fits == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*at..end].copy_from_slice(bytes);
            }
            Self::Truncate(length) => image.truncate(*length),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => names.insert(name.clone(), *inode),
            Self::Unlink(name) => names.remove(name),
        };
    }
}

/// Applies what of `pending` survives: some first operations, the last of them perhaps in part.
fn tear(pending: &[Change], image: &mut Vec<u8>, random: &mut Random) {
    let survived = random.below(pending.len() + 1);
    for change in &pending[..survived] {
        change.apply(image);
    }
    if let Some(Change::Write { at, bytes }) = pending.get(survived) {
        let written = random.below(bytes.len() + 1);
        let mut part = bytes[..written].to_vec();
        if random.below(2) == 0 {
            // The length grew, but not every sector arrived.
            for sector in part.chunks_mut(SECTOR_BYTES) {
                if random.below(2) == 0 {
                    sector.fill(0);
                }
            }
        }
        Change::Write {
            at: *at,
            bytes: part,
        }
        .apply(image);
    }
}

/// splitmix64: the same seed gives the same crash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or(0)
    }
}
