//! What would come of a loss, a drain, more nodes or a change: a rehearsal, watched and told.

mod event;
mod names;
mod report;
mod track;

use api_types::view::{Forecast, Question};

use crate::{
    effect::Refusal,
    machine::Scheduler,
    rehearsal::Rehearsal,
    what_if::{event::Event, report::Report, track::Tracks},
};

impl Scheduler {
    /// What would come of it, by the very code that would act, on a copy in virtual time. Changes nothing.
    ///
    /// What is placed counts as well at once, so times are those of silence, waiting and order, without pulling images and
    /// starting processes. What is under way now goes on in it.
    ///
    /// # Errors
    /// When the question names what is not there, an apply would be refused, or the scheduler has just started.
    pub fn what_if(&self, question: &Question) -> Result<Forecast, Refusal> {
        if self.is_warming_up() {
            let reason = "the scheduler has just started and waits for the nodes to report: ask again in a few seconds";
            return Err(Refusal::Conflict(reason.to_owned()));
        }
        let event = Event::new(self, question)?;
        let mut rehearsal = Rehearsal::new(self, event.dead().clone());
        let mut tracks = Tracks::new(event.concerned(self));
        tracks.begin(self);
        event.happen(&mut rehearsal)?;
        let end = rehearsal.play(None, &mut |rehearsal, moment| tracks.look(self, rehearsal, moment));
        Ok(Report { before: self, rehearsal: &rehearsal, tracks: &tracks, event: &event, end }.forecast())
    }
}
