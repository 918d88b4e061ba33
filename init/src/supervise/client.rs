//! Clients of the supervisor: connections of the host.

use pidone_proto::Report;
use rustix::fd::BorrowedFd;

use super::{CLIENTS, Supervisor, watch};
use crate::channel::Channel;
use crate::kernel::signal;

/// A connection.
pub(super) struct Client {
    pub(super) channel: Channel,
    /// Identifies it: its place in the table may be another client's later.
    pub(super) number: u32,
}

impl Supervisor<'_> {
    /// Adds a connection. If the table is full, it is closed at once.
    pub(super) fn admit(&mut self, channel: Channel) {
        let number = self.next_number();
        let Some(place) = self.clients.iter().position(Option::is_none) else { return };
        let data = CLIENTS + u64::try_from(place).unwrap_or(0);
        if watch(&self.epoll, channel.as_fd(), data).is_ok()
            && let Some(free) = self.clients.get_mut(place)
        {
            *free = Some(Client { channel, number });
        }
    }

    /// Closes a connection. Its processes keep running, except those that it has no report of: who
    /// has given up waiting for one must not get it later.
    pub(super) fn dismiss(&mut self, place: usize) {
        if let Some(client) = self.clients.get_mut(place).and_then(Option::take) {
            self.unwatch(client.channel.as_fd());
            for process in self.processes.iter().flatten() {
                if process.client == client.number && !process.spawned {
                    let _ = signal::send(process.pid, signal::KILL);
                }
            }
        }
    }

    /// Sends a report to the client with a number, if it still exists. A client that does not read
    /// its reports is dismissed.
    pub(super) fn report(
        &mut self,
        number: u32,
        report: &Report<'_>,
        descriptor: Option<BorrowedFd<'_>>,
    ) {
        let is_it =
            |client: &Option<Client>| client.as_ref().is_some_and(|client| client.number == number);
        let Some(place) = self.clients.iter().position(is_it) else { return };
        if let Some(Some(client)) = self.clients.get_mut(place)
            && client.channel.send(report, descriptor).is_err()
        {
            self.dismiss(place);
        }
    }
}
