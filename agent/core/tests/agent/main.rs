//! The agent's decisions, in stories and for any story.

mod node;
mod properties;
mod stories;
mod stories_alone;
mod stories_balancing;
mod stories_companions;
mod stories_content;
mod stories_dependencies;
mod stories_devices;
mod stories_ending;
mod stories_jobs;
mod stories_lease;
mod stories_probes;
mod stories_recovery;
mod stories_tunnels;
mod stories_watch;
