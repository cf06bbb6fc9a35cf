//! The adapter on a real containerd: each test has one of its own, and leaves nothing behind.

mod attach;
mod bed;
mod companions;
mod containers;
mod copy;
mod devices;
mod exec;
mod hardening;
mod images;
mod output;
mod registries;
mod restarts;
mod views;
mod volumes;
