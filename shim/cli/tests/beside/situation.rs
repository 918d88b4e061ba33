//! What a situation consists of.

/// A container, and what is done with it.
///
/// The container's configuration is that of `pidone spec` without a terminal. In a changed value,
/// `@BUNDLE` is the directory of the bundle, and `@CGROUP` the path of the container's cgroup.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    /// Changes of the configuration: the way to a property, and its value as JSON. The name `+`
    /// appends to an array.
    pub(crate) changes: &'static [(&'static str, &'static str)],
    /// Commands that the host runs in the root file system before.
    pub(crate) image: &'static str,
    /// Commands that the container's first process runs.
    pub(crate) inside: &'static str,
    /// Commands that the host runs in the bundle. `r` is the runtime with its state directory, and
    /// `t` runs a command and prints its exit status.
    pub(crate) steps: &'static str,
}

impl Situation {
    /// A container that is run once and executes these commands.
    pub(crate) const fn inside(name: &'static str, inside: &'static str) -> Self {
        Self { name, changes: &[], image: "", inside, steps: "t r run c" }
    }

    /// Commands of the host, with a container that stays until it gets SIGTERM.
    pub(crate) const fn steps(name: &'static str, steps: &'static str) -> Self {
        let inside = "trap 'exit 3' TERM; echo ready >/dev/shm/ready; while :; do sleep 0.05; done";
        Self { name, changes: &[], image: "", inside, steps }
    }

    /// With these changes of the configuration.
    pub(crate) const fn config(mut self, changes: &'static [(&'static str, &'static str)]) -> Self {
        self.changes = changes;
        self
    }

    /// With these commands in the root file system.
    pub(crate) const fn image(mut self, image: &'static str) -> Self {
        self.image = image;
        self
    }

    /// With these commands on the host in place of a single `run`.
    pub(crate) const fn by(mut self, steps: &'static str) -> Self {
        self.steps = steps;
        self
    }

    /// With these commands of the first process.
    pub(crate) const fn first(mut self, inside: &'static str) -> Self {
        self.inside = inside;
        self
    }
}
