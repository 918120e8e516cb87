//! What the journal answers: refusals and reads.

use outlive_actors::model::effect::{Effect, Input};
use outlive_actors::model::entry::Entry;
use outlive_actors::model::packet::Outbound;

use crate::world::{Held, Read, Residence, World};

impl World {
    /// The journal takes none of a submission: its session is told before anything else happens, whether or not an
    /// answer to the publisher still waits.
    pub(crate) fn refuse(&mut self, at: usize) {
        let submission = self.journal.pending.remove(at).expect("it is there");
        let mut inputs = Vec::new();
        let mut received_of = Vec::new();
        for entry in &submission.entries {
            let Entry::Message { message, received } = entry else {
                continue;
            };
            let post = self.oracle.post_of(message);
            self.oracle.posts[post].refused = true;
            received_of.extend(received.map(|packet_id| (message.publisher, packet_id)));
        }
        let client = submission.owner;
        if let Residence::Active(actor) = &mut self.residences[client] {
            actor.failed.insert(submission.ticket);
            received_of.retain(|(number, _)| *number == actor.session.number());
            for (_, packet_id) in received_of {
                // A repeated PUBLISH was answered as received meanwhile; it was not.
                actor.held.retain(|held| {
                    !matches!(held, Held::Effect(Effect::Send(Outbound::PubRec { packet_id: answered, .. }))
                        if *answered == packet_id)
                });
                inputs.push(Input::PublishFailed {
                    received: Some(packet_id),
                });
            }
        }
        self.turn(client, inputs);
    }

    /// A read happens now; its answer arrives later.
    pub(crate) fn read(&self, read: Read) -> Input {
        match read {
            Read::Page {
                fence,
                read,
                filters,
                from,
                records_max,
            } => {
                let page = self.journal.read(&filters, from, records_max);
                Input::Page { fence, read, page }
            }
            Read::Reread(fence, offsets) => Input::Reread {
                fence,
                records: self.journal.read_at(&offsets),
            },
            Read::Retained(look_up) => Input::Retained {
                fence: look_up.fence,
                page: self.journal.retained(&look_up),
            },
            Read::Answer(input) => input,
        }
    }
}
