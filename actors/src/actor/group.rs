//! The group actor: the hands of one [`Group`].
//!
//! Owns: the group, its reads. Does not know: sessions, sockets, who is a member while nobody is online. What is said to it
//! and what it reads waits in its shard's [`Local`]; a turn takes all of it, decides, and sends what is left for others
//! once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Recipient, WrapFuture,
};

use super::local::{GroupState, Local, Occupant};
use super::protocol::{GroupDied, RecalledImage, ToGroup};
use crate::journal::{JournalReader, ReadError, ReadRequest};
use crate::model::cursor::ReadId;
use crate::model::effects::Effects;
use crate::model::entry::Entry;
use crate::model::group::talk::GroupRef;
use crate::model::group::{Group, GroupEffect, GroupInput};
use crate::model::ids::{GroupNumber, Offset};
use crate::observe::{Gauge, GroupObservation};
use crate::supervise::Sentinel;

/// Bytes that one catch-up read brings at most.
const READ_BYTES_MAX: usize = 256 * 1024;

/// After so long a read that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs one group.
#[derive(Debug)]
pub struct GroupActor {
    sentinel: Sentinel<GroupNumber>,
    group: Group,
    /// The snapshot is asked for once this ticket is answered: it would lack what is under way.
    recall: Option<u64>,
    local: Rc<RefCell<Local>>,
    effects: Effects<GroupEffect>,
    /// What the gauges were told last.
    shown: Shown,
}

/// What a group adds to its shard's gauges.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    leases: i64,
    waiting: i64,
    behind: i64,
}

impl Shown {
    fn of(group: &Group) -> Self {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Self {
            leases: count(group.leased()),
            waiting: count(group.waiting()),
            behind: i64::from(group.is_durable() && !group.cursor().is_live()),
        }
    }

    fn shift_to(&mut self, local: &Local, next: Self) {
        let cells = &local.cells;
        for (gauge, before, after) in [
            (Gauge::GroupLeases, self.leases, next.leases),
            (Gauge::GroupWaiting, self.waiting, next.waiting),
            (Gauge::GroupsBehind, self.behind, next.behind),
        ] {
            if before != after {
                cells.shift(gauge, after - before);
            }
        }
        *self = next;
    }
}

impl GroupActor {
    /// A turn: what the shard put into the slot comes first, then what was said, then `inputs`.
    fn turn(&mut self, inputs: impl IntoIterator<Item = GroupInput>, ctx: &mut Context<Self>) {
        let slot = self.sentinel.slot();
        let (now, said, woken) = {
            let mut local = self.local.borrow_mut();
            let said = local.groups.take_said(self.group.number());
            (local.now(), said, local.take(slot))
        };
        self.recall_answered(ctx);
        let mut effects = std::mem::take(&mut self.effects);
        let said = said.into_iter().map(GroupInput::Said);
        let live = woken.live.into_iter().map(GroupInput::Live);
        let records = woken.records.into_iter().map(GroupInput::Logged);
        // What was committed comes first: `Now::live_end` says that it was handed over.
        let taken = records.chain(live).chain(said);
        for input in taken.chain(inputs) {
            self.group.take_in(now, input, &mut effects);
        }
        self.group.pump(now, &mut effects);
        for effect in effects.drain() {
            self.perform(effect, ctx);
        }
        let mut local = self.local.borrow_mut();
        local.count_all(&mut effects);
        self.effects = effects;
        local.flush(slot);
        if !self.sentinel.is_dismissed() {
            local
                .groups
                .set_deadline(self.group.number(), self.group.deadline());
            self.shown.shift_to(&local, Shown::of(&self.group));
        }
    }

    fn perform(&mut self, effect: GroupEffect, ctx: &mut Context<Self>) {
        #[cfg(feature = "testing")]
        self.local
            .borrow()
            .shared
            .faults
            .before_group(self.group.filter(), &effect);
        let number = self.group.number();
        let slot = self.sentinel.slot();
        match effect {
            GroupEffect::Lease {
                member,
                fence,
                place,
                lease,
            } => {
                let mut local = self.local.borrow_mut();
                let group = GroupRef {
                    number,
                    home: local.shard,
                };
                let lessor = (group, self.group.filter());
                local.lease(lessor, (member, place), fence, lease);
            }
            GroupEffect::Listen(on) => {
                self.local.borrow_mut().listen_group(slot, number, on);
            }
            GroupEffect::Record(change) => {
                let mut local = self.local.borrow_mut();
                local.append(Entry::group(number, change));
            }
            GroupEffect::Read {
                read,
                from,
                records_max,
            } => self.read(read, from, records_max, ctx),
            GroupEffect::Reread(asked) => self.reread(asked, ctx),
            GroupEffect::Recall => self.recall = Some(self.local.borrow_mut().ask()),
            GroupEffect::End => self.end(ctx),
        }
    }

    fn read(&self, read: ReadId, from: Offset, records_max: u32, ctx: &mut Context<Self>) {
        let filters = [(self.group.plain_filter().clone(), from)];
        self.read_with(ctx, move |journal| {
            let request = ReadRequest {
                filters: &filters,
                from,
                records_max: records_max as usize,
                bytes_max: READ_BYTES_MAX,
            };
            let page = journal.read(&request)?;
            Ok(GroupInput::Page { read, page })
        });
    }

    fn reread(&self, asked: Vec<Offset>, ctx: &mut Context<Self>) {
        self.read_with(ctx, move |journal| {
            let records = journal.read_at(&asked)?;
            Ok(GroupInput::Reread { asked, records })
        });
    }

    /// Reads on a thread that may wait for a disk. What cannot be read is not skipped: it is tried again.
    fn read_with(
        &self,
        ctx: &mut Context<Self>,
        read: impl FnOnce(&dyn JournalReader) -> Result<GroupInput, ReadError> + Send + 'static,
    ) {
        let journal = Arc::clone(&self.local.borrow().shared.journal);
        let answer = tokio::task::spawn_blocking(move || read(&*journal));
        ctx.spawn(answer.into_actor(self).map(|answer, group, ctx| {
            let error = match answer {
                Ok(Ok(input)) => return group.turn([input], ctx),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            let filter = group.group.filter();
            tracing::error!(%filter, error, "journal cannot be read, the group waits");
            ctx.run_later(RETRY_INTERVAL, |group, ctx| {
                group.turn([GroupInput::ReadFailed], ctx);
            });
        }));
    }

    fn recall_answered(&mut self, ctx: &Context<Self>) {
        let local = self.local.borrow();
        if !self.recall.is_some_and(|ticket| local.is_answered(ticket)) {
            return;
        }
        self.recall = None;
        let group = ctx.address();
        let reply = move |image| group.do_send(ToGroup::Recalled(image));
        let shared = &local.shared;
        let (number, end) = (self.group.number(), shared.journal.end());
        shared.checkpointer.group(number, end, Box::new(reply));
    }

    /// What is not there is not nothing: it is asked for again.
    fn recalled(&mut self, image: RecalledImage, ctx: &mut Context<Self>) {
        let error = match image {
            Ok(Some(snapshot)) => {
                let snapshot = Some(Box::new(snapshot));
                return self.turn([GroupInput::Recalled(snapshot)], ctx);
            }
            Ok(None) => "it is not in the journal".to_owned(),
            Err(error) => error.to_string(),
        };
        let filter = self.group.filter();
        tracing::error!(%filter, error, "group's snapshot cannot be read, the group waits");
        ctx.run_later(RETRY_INTERVAL, |group, ctx| {
            group.turn([GroupInput::Recalled(None)], ctx);
        });
    }

    fn end(&mut self, ctx: &mut Context<Self>) {
        let mut local = self.local.borrow_mut();
        self.sentinel.dismiss();
        self.shown.shift_to(&local, Shown::default());
        local.vacate(self.sentinel.slot());
        ctx.stop();
    }
}

impl Drop for GroupActor {
    /// An actor that died shows nothing any more.
    fn drop(&mut self) {
        if !self.sentinel.is_dismissed()
            && let Ok(local) = self.local.try_borrow()
        {
            self.shown.shift_to(&local, Shown::default());
        }
    }
}

impl Actor for GroupActor {
    type Context = Context<Self>;
}

impl Handler<ToGroup> for GroupActor {
    type Result = ();

    fn handle(&mut self, told: ToGroup, ctx: &mut Self::Context) {
        match told {
            ToGroup::Wake => self.turn([], ctx),
            ToGroup::Durable(next) => self.turn([GroupInput::Durable { next }], ctx),
            ToGroup::Strategy(strategy) => self.turn([GroupInput::Strategy(strategy)], ctx),
            ToGroup::Tick => self.turn([GroupInput::Tick], ctx),
            ToGroup::Recalled(image) => self.recalled(image, ctx),
            ToGroup::Observe(answer) => {
                let local = self.local.borrow();
                let standing = local.shared.groups.lock().get(self.group.filter());
                if let Some(standing) = standing {
                    let journal = &*local.shared.journal;
                    let observation = GroupObservation::of(standing, &self.group, journal);
                    // Whoever asked may have given up.
                    answer.send(observation).ok();
                }
            }
            ToGroup::End => self.turn([GroupInput::End], ctx),
        }
    }
}

/// Starts an actor for `group` on this thread; the shard's [`super::shard::SpawnGroup`].
pub fn spawn(mut group: Group, local: Rc<RefCell<Local>>, shard: Rc<Recipient<GroupDied>>) {
    let context = Context::<GroupActor>::new();
    let address = context.address().recipient();
    let number = group.number();
    let mut effects = Effects::new();
    let slot = {
        let mut borrowed = local.borrow_mut();
        let slot = borrowed.occupy(Occupant::Group(address.clone()));
        if let Some(resident) = borrowed.groups.get(number) {
            if resident.deaths > 0 {
                let online = resident.attendance.online();
                group.recount(resident.deaths, online, &mut effects);
            }
            resident.state = GroupState::Active(slot);
        }
        slot
    };
    let sentinel = Sentinel::new(shard, slot, number);
    context.run(GroupActor {
        sentinel,
        group,
        local,
        recall: None,
        effects,
        shown: Shown::default(),
    });
    address.do_send(ToGroup::Wake);
}
