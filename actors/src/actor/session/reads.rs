//! Reading the journal on threads that may wait for a disk.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use parking_lot::RwLock;

use super::SessionActor;
use super::turn::Turn;
use crate::journal::{JournalReader, ReadError, ReadRequest};
use crate::model::cursor::ReadId;
use crate::model::effect::Input;
use crate::model::ids::{Fence, Offset};
use crate::model::packet::SubscriptionOptions;
use crate::model::record::{Page, Record};
use crate::model::refusal::Refusal;
use crate::model::retained::Retained;
use crate::model::topic::Filter;

/// Topics that a look-up of retained messages looks at before it lets others at the table.
const TOPICS_VISITED_MAX: usize = 4096;

/// Bytes that one catch-up read brings at most.
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
        let filters: Vec<_> = self
            .session
            .subscriptions()
            .durable()
            .map(|known| (known.filter.clone(), known.from))
            .collect();
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

    /// Looks up the retained messages of a filter: at once without wildcards, else elsewhere, since it may have to look
    /// at many topics.
    pub(super) fn find_retained(
        &mut self,
        filter: Filter,
        options: SubscriptionOptions,
        turn: &mut Turn<'_>,
    ) {
        let fence = self.session.fence();
        let found = move |offsets| Input::RetainedFound {
            fence,
            options,
            offsets,
        };
        let retained = Arc::clone(&self.local.borrow().shared.retained);
        if filter.has_wildcard() {
            self.read_with(turn, move |_| Ok(found(search(&retained, &filter))));
        } else {
            let offset = retained.read().get(filter.as_str());
            turn.answers.push(found(offset.into_iter().collect()));
        }
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

/// The records of the retained messages that `filter` matches, in topic order. The table is locked for a part of the
/// look-up at a time.
fn search(retained: &RwLock<Retained>, filter: &Filter) -> Vec<Offset> {
    let mut offsets = Vec::new();
    let mut after: Option<Box<str>> = None;
    loop {
        let page = retained
            .read()
            .page(filter, after.as_deref(), usize::MAX, TOPICS_VISITED_MAX);
        offsets.extend(page.found.iter().map(|(_, offset)| *offset));
        after = page.resume;
        if after.is_none() {
            return offsets;
        }
    }
}
