//! Profiles and system calls at random.

use pidone_config::oci::linux::seccomp;
use pidone_host::seccomp::{
    Action, Arch, Condition, Operator, Profile, Rule, SeccompData, Syscall,
};
use proptest::prelude::*;

use crate::model::NAMES;

/// Any profile that can be compiled.
pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    let rules = prop::collection::vec(rule(), 0..12);
    (architectures(), action(), rules).prop_map(|(architectures, default, mut rules)| {
        // A number is one of x86_64 or one of x32.
        if architectures.contains(&Arch::X32) {
            for rule in &mut rules {
                rule.syscalls.retain(|call| matches!(call, Syscall::Name(_)));
            }
        }
        Profile { architectures, default, rules, flags: 0 }
    })
}

/// A profile of which libseccomp says the same: it goes by its own order where rules of one system
/// call differ in their action, and forgets conditions on sockets (see `multiplexed_sockets`).
pub(crate) fn plain_profile() -> impl Strategy<Value = Profile> {
    let one = (action(), prop::collection::vec(conditions(), 1..5));
    let calls = prop::collection::vec((0..NAMES.len(), one), 0..10);
    (architectures(), action(), calls).prop_map(|(mut architectures, default, mut calls)| {
        architectures.retain(|arch| *arch != Arch::NATIVE);
        architectures.insert(0, Arch::NATIVE);
        calls.sort_by_key(|(name, _)| *name);
        calls.dedup_by_key(|(name, _)| *name);
        let mut rules = Vec::new();
        for (name, (action, choices)) in calls {
            let (name, _, multiplexer, _) = NAMES[name];
            for mut conditions in choices {
                if multiplexer != u32::MAX || name == "socketcall" {
                    conditions.clear();
                }
                conditions.sort_by_key(|condition| condition.index);
                conditions.dedup_by_key(|condition| condition.index);
                let syscalls = vec![Syscall::Name(name.into())];
                rules.push(Rule { syscalls, action, conditions });
            }
        }
        // The newest system call is one that both know.
        let syscalls = vec![Syscall::Name("mseal".into())];
        rules.retain(|rule| rule.syscalls != syscalls);
        rules.push(Rule {
            syscalls: vec![Syscall::Name("futex_waitv".into())],
            action: if default == Action::Allow { Action::Trap } else { Action::Allow },
            conditions: Vec::new(),
        });
        Profile { architectures, default, rules, flags: 0 }
    })
}

fn architectures() -> impl Strategy<Value = Vec<Arch>> {
    prop::sample::subsequence(Arch::ALL.to_vec(), 0..=5).prop_shuffle()
}

/// Any action; libseccomp refuses the errno 4095, the kernel takes it.
pub(crate) fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        prop::sample::select(seccomp::ACTIONS.map(|(_, action)| action).to_vec()),
        (0..4095_u16).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let syscall = prop_oneof![
        4 => prop::sample::select(NAMES.to_vec()).prop_map(|row| Syscall::Name(row.0.into())),
        1 => (0..480_u32).prop_map(Syscall::Number),
    ];
    let syscalls = prop::collection::vec(syscall, 1..5);
    (syscalls, action(), conditions()).prop_map(|(syscalls, action, conditions)| Rule {
        syscalls,
        action,
        conditions,
    })
}

pub(crate) fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let operator = prop::sample::select(seccomp::OPERATORS.map(|(_, operator)| operator).to_vec());
    // Conditions on the first argument are common, and are those that meet.
    let index = prop_oneof![Just(0), 0..6_u8];
    let condition =
        (index, operator, value(), value()).prop_map(|(index, operator, value, value_two)| {
            // A mask of nothing always holds; libseccomp takes the rule for one without conditions
            // then, and its position decides.
            let nothing = operator == Operator::MaskedEqual && value == 0;
            let value = if nothing { 1 } else { value };
            Condition { index, operator, value, value_two }
        });
    prop::collection::vec(condition, 0..4)
}

fn value() -> impl Strategy<Value = u64> {
    let high = prop::sample::select(vec![0, 0, 0, 1, 7, u32::MAX]);
    let low = prop_oneof![
        prop::sample::select(vec![0, 1, 2, 16, 40, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        any::<u32>()
    ];
    (high, low).prop_map(|(high, low)| (u64::from(high) << 32) | u64::from(low))
}

/// Numbers that are random enough to choose system calls by.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 ^ (self.0 >> 32)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let length = u64::try_from(from.len()).unwrap();
        from[usize::try_from(self.roll() % length).unwrap()]
    }

    /// A system call near the rules of a profile.
    pub(crate) fn data(&mut self, profile: &Profile) -> SeccompData {
        let arch = self.pick(&[0xc000_003e, 0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 8]);
        let small = u32::try_from(self.roll() % 600).unwrap();
        let row = self.pick(&NAMES);
        let listed = self.pick(&row.1);
        let nr = match self.roll() % 12 {
            0 => small,
            1 => 0x4000_0000 + small,
            2 => self.pick(&[u32::MAX, 0x4000_0000, 0x3fff_ffff, 0xe_ffff, 0xf_0000, 102, 117]),
            3 => u32::try_from(self.roll() >> 32).unwrap(),
            _ => listed,
        };
        let args = [(); 6].map(|()| self.argument(profile));
        SeccompData { nr, arch, ip: self.roll(), args }
    }

    /// An argument near those that a profile compares with.
    pub(crate) fn argument(&mut self, profile: &Profile) -> u64 {
        let conditions = profile.rules.iter().flat_map(|rule| &rule.conditions);
        let values: Vec<u64> = conditions.flat_map(|c| [c.value, c.value_two]).collect();
        let value = if values.is_empty() { 0 } else { self.pick(&values) };
        match self.roll() % 10 {
            0 => self.roll(),
            1 => self.pick(&[0, 1, 4, 16, 23, u64::MAX]),
            2 => value.wrapping_add(1),
            3 => value.wrapping_sub(1),
            4 => value & 0xffff_ffff,
            5 => value ^ (1 << 32),
            _ => value,
        }
    }
}
