//! What must hold: after every step, every second, and at the end.

pub mod causes;
pub mod companions;
pub mod convergence;
pub mod displaced;
pub mod every_second;
pub mod exclusive;
pub mod jobs;
pub mod oracle;
pub mod releases;
pub mod rules;
pub mod scaling;
