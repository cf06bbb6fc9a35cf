//! The server over real sockets, asked by datagrams of our own and by the programs that ask on real nodes. Those need root.

mod bed;
mod programs;
mod server;
