//! Clients of the supervisor: connections of the host.

use pidone_proto::Report;
use rustix::fd::BorrowedFd;

use super::{CLIENTS, Supervisor, watch};
use crate::channel::Channel;

/// A connection.
pub(super) struct Client {
    pub(super) channel: Channel,
    /// Its number: the place in the table may be another's later.
    pub(super) number: u32,
}

impl Supervisor<'_> {
    /// Takes a connection in. Where there is no room it is closed at once.
    pub(super) fn admit(&mut self, channel: Channel) {
        let number = self.number();
        let Some(place) = self.clients.iter().position(Option::is_none) else { return };
        let data = CLIENTS + u64::try_from(place).unwrap_or(0);
        if watch(&self.epoll, channel.as_fd(), data).is_ok()
            && let Some(free) = self.clients.get_mut(place)
        {
            *free = Some(Client { channel, number });
        }
    }

    /// Closes a connection. Its processes go on.
    pub(super) fn dismiss(&mut self, place: usize) {
        if let Some(client) = self.clients.get_mut(place).and_then(Option::take) {
            self.unwatch(client.channel.as_fd());
        }
    }

    /// Tells the client with a number something, if it is still there. One that does not read what
    /// it is told is let go.
    pub(super) fn tell(
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
