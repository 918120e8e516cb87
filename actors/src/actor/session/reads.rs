//! Reading the journal on threads that may wait for a disk.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::SessionActor;
use crate::journal::{JournalReader, ReadError, ReadRequest};
use crate::model::cursor::ReadId;
use crate::model::effect::Input;
use crate::model::ids::{Fence, Offset};
use crate::model::record::{Page, Record};
use crate::model::refusal::Refusal;

/// Bytes that one catch-up read brings at most.
const READ_BYTES_MAX: usize = 256 * 1024;

impl SessionActor {
    /// Reads on a thread that may wait for a disk.
    pub(super) fn read(
        &mut self,
        read: ReadId,
        from: Offset,
        records_max: u32,
        ctx: &mut Context<Self>,
    ) {
        let filters: Vec<_> = self
            .session
            .subscriptions()
            .durable()
            .map(|known| (known.filter.clone(), known.from))
            .collect();
        let fence = self.session.fence();
        self.read_with(ctx, move |journal| {
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
        ctx: &mut Context<Self>,
        answer: impl FnOnce(Fence, Vec<Option<Record>>) -> Input + Send + 'static,
    ) {
        let fence = self.session.fence();
        self.read_with(ctx, move |journal| {
            journal
                .read_at(&offsets)
                .map(|records| answer(fence, records))
        });
    }

    pub(super) fn read_with(
        &mut self,
        ctx: &mut Context<Self>,
        read: impl FnOnce(&dyn JournalReader) -> Result<Input, ReadError> + Send + 'static,
    ) {
        let journal = Arc::clone(&self.local.borrow().shared.journal);
        let answer = tokio::task::spawn_blocking(move || read(&*journal));
        ctx.spawn(
            answer
                .into_actor(self)
                .map(|answer, session, ctx| match answer {
                    Ok(Ok(input)) => session.turn([input], None, ctx),
                    Ok(Err(error)) => session.read_failed(&error.to_string(), ctx),
                    Err(error) => session.read_failed(&error.to_string(), ctx),
                }),
        );
    }

    /// What cannot be read is not skipped: the connection ends, the records stay, an operator is told.
    pub(super) fn read_failed(&mut self, error: &str, ctx: &mut Context<Self>) {
        tracing::error!(client_id = %self.session.client_id(), error, "journal cannot be read, connection closed");
        self.turn(
            [Input::End {
                refusal: Refusal::Internal,
                discard: false,
            }],
            None,
            ctx,
        );
    }
}
