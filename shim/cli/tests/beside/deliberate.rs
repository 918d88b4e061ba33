//! Where `pidone` differs from the distribution's runc, which is version 1.1.

/// Situations, and why the columns differ.
pub(crate) const DIFFERENCES: &[(&str, &str)] = &[
    ("a_file_in_the_place_of_null", "runc redirects standard output, a file too, into that file"),
    ("a_further_process_has_the_cpuset", "as runc since 1.2: the caller's affinity is reset"),
    ("a_hook_that_asks_for_the_state", "the state exists while hooks run, with `creating`"),
    ("a_read_only_dev", "/dev/core is made as by crun, whether or not the host has /proc/kcore"),
    ("a_redundant_null", "the null device stays permitted; runc cannot open it then"),
    ("a_tmpfs_with_size_and_mode", "as runc since 1.2: the option `mode` has precedence"),
    ("a_version_of_the_future", "the specification requires an error"),
    ("an_empty_entry_of_path", "as execvp(3): it is the working directory"),
    ("no_path_at_all", "as execvp(3): there is a default search path"),
    ("no_version", "the specification requires the property"),
    ("ps_of_a_stopped_one", "nothing is listed, and a list in JSON is `[]`"),
    ("special_bits_of_a_device", "runc takes the bits of chmod(2) for Go's, and loses some"),
    ("the_callers_processors_are_reset", "as runc since 1.2: the caller's affinity is reset"),
    ("the_default_devices", "/dev/core is made as by crun, as above"),
    ("the_state_document", "`owner` is the name of the user, not empty"),
];
