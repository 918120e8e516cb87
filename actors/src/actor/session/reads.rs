//! Reading the journal on threads that may wait for a disk.

use std::rc::Rc;
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use parking_lot::RwLock;

use super::SessionActor;
use super::turn::{Held, Turn};
use crate::journal::{JournalReader, ReadError, ReadRequest};
use crate::model::cursor::ReadId;
use crate::model::effect::Input;
use crate::model::ids::{Fence, Offset, Timestamp};
use crate::model::record::{Page, Record, RetainedRecords};
use crate::model::refusal::Refusal;
use crate::model::retained::Retained;
use crate::model::topic::Filter;

/// Topics that a look-up of retained messages looks at before it lets others at the table.
const TOPICS_VISITED_MAX: usize = 4096;

/// Bytes that one read brings at most, and one record.
const READ_BYTES_MAX: usize = 256 * 1024;

impl SessionActor {
    /// Reads on a thread that may wait for a disk.
    pub(super) fn read(
        &mut self,
        read: ReadId,
        from: Offset,
        records_max: u32,
        turn: &mut Turn<'_>,
    ) {
        let filters = self.session.reads();
        let fence = self.session.fence();
        self.read_with(turn, move |journal| {
            let request = ReadRequest {
                filters: &filters,
                from,
                records_max: records_max as usize,
                bytes_max: READ_BYTES_MAX,
            };
            journal
                .read(&request)
                .map(|page: Page| Input::Page { fence, read, page })
        });
    }

    pub(super) fn read_at(
        &mut self,
        offsets: Vec<Offset>,
        turn: &mut Turn<'_>,
        answer: impl FnOnce(Fence, Vec<Option<Record>>) -> Input + Send + 'static,
    ) {
        let fence = self.session.fence();
        self.read_with(turn, move |journal| {
            journal
                .read_at(&offsets)
                .map(|records| answer(fence, records))
        });
    }

    pub(super) fn read_with(
        &mut self,
        turn: &mut Turn<'_>,
        read: impl FnOnce(&dyn JournalReader) -> Result<Input, ReadError> + Send + 'static,
    ) {
        let journal = Arc::clone(&self.local.borrow().shared.journal);
        let answer = tokio::task::spawn_blocking(move || read(&*journal));
        turn.ctx.spawn(
            answer
                .into_actor(self)
                .map(|answer, session, ctx| match answer {
                    Ok(Ok(input)) => session.turn([input], ctx),
                    Ok(Err(error)) => session.read_failed(&error.to_string(), ctx),
                    Err(error) => session.read_failed(&error.to_string(), ctx),
                }),
        );
    }

    /// Reads a page of retained messages. What was published until now is in the table once the journal has answered;
    /// until then the look-up waits.
    pub(super) fn read_retained(
        &mut self,
        filter: Filter,
        after: Option<Box<str>>,
        records_max: usize,
        turn: &mut Turn<'_>,
    ) {
        let look_up = LookUp {
            fence: self.session.fence(),
            asked_at: self.local.borrow().shared.clock.now(),
            filter,
            after,
            records_max,
        };
        let shared = Rc::clone(&self.local);
        let mut local = shared.borrow_mut();
        if local.shared.appender.is_idle() && !local.has_entries() {
            drop(local);
            self.look_up(look_up, turn);
        } else {
            let ticket = local.ask();
            drop(local);
            self.barrier(ticket);
            self.waiting.held.push_back(Held::LookUp(look_up));
        }
    }

    /// Looks up without waiting: at once if there is nothing to read.
    pub(super) fn look_up(&mut self, look_up: LookUp, turn: &mut Turn<'_>) {
        let retained = Arc::clone(&self.local.borrow().shared.retained);
        let filter = &look_up.filter;
        if !filter.has_wildcard() && retained.read().get(filter.as_str()).is_none() {
            turn.answers.push(look_up.answer(Vec::new(), None));
            return;
        }
        self.read_with(turn, move |journal| look_up.read(&retained, journal));
    }

    /// What cannot be read is not skipped: the connection ends, the records stay, an operator is told.
    pub(super) fn read_failed(&mut self, error: &str, ctx: &mut Context<Self>) {
        tracing::error!(client_id = %self.session.client_id(), error, "journal cannot be read, connection closed");
        self.turn(
            [Input::End {
                refusal: Refusal::Internal,
                discard: false,
            }],
            ctx,
        );
    }
}

/// A look-up of retained messages.
#[derive(Debug)]
pub(super) struct LookUp {
    fence: Fence,
    asked_at: Timestamp,
    filter: Filter,
    after: Option<Box<str>>,
    records_max: usize,
}

impl LookUp {
    fn answer(self, records: Vec<Option<Record>>, resume: Option<Box<str>>) -> Input {
        Input::Retained {
            fence: self.fence,
            page: RetainedRecords {
                asked_at: self.asked_at,
                records,
                resume,
            },
        }
    }

    /// Reads what the table names. The table is locked for a part of the look-up at a time.
    fn read(
        self,
        retained: &RwLock<Retained>,
        journal: &dyn JournalReader,
    ) -> Result<Input, ReadError> {
        let page = retained.read().page(
            &self.filter,
            self.after.as_deref(),
            self.records_max,
            TOPICS_VISITED_MAX,
        );
        let mut records = Vec::with_capacity(page.found.len());
        let mut bytes = 0;
        let mut resume = page.resume;
        let mut found = page.found.into_iter().peekable();
        while let Some((topic, offset)) = found.next() {
            let record = journal.read_at(&[offset])?.pop().flatten();
            let message = record.as_ref().map(|record| &record.message);
            bytes += message.map_or(0, |message| message.size_bytes());
            records.push(record);
            if bytes >= READ_BYTES_MAX && found.peek().is_some() {
                resume = Some(topic);
                break;
            }
        }
        Ok(self.answer(records, resume))
    }
}
