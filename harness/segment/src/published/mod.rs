//! Segments of services: files in a folder of their user's, that an agent finds and reads.
//!
//! A service makes a file of the shape of a segment in the runtime folder, maps it and counts into it; see
//! [`create`](create()). The file is named `NAME.PID.STARTTIME.heapgate`: the service's name, its process id, and when it
//! started, as field 22 of `/proc/PID/stat` has it, since process ids are used again. It outlives the process; who has
//! shown its last state removes it ([`Entry::remove`]).
//!
//! **The runtime folder** is `$HEAPGATE_RUNTIME_DIR`, or else `$XDG_RUNTIME_DIR/heapgate`, or else `/tmp/heapgate-UID`.
//! It is made (mode 0700) if it is missing, and refused if it belongs to another user or others may write it. It should
//! lie in memory (tmpfs): a file on a disk is written back every few seconds, and then each first store to a page has to
//! wait for the file system.
//!
//! **Reading.** Whoever may write such a file may cut it short at any time, and a mapping of it would then end the reader.
//! So it is read by `pread` into a [`Buffer`], which adds up the slots on the way: it is small, and one is enough for any
//! number of files. Who reads the same files again and again keeps a [`Settled`] of each, and what its quiet threads have
//! counted is not copied again.
//!
//! **Asking it.** A process that takes requests ([`crate::mailbox`]) is asked by [`Entry::request`]; call stacks that it
//! takes then are in a file beside its own, `NAME.PID.STARTTIME.stacks`, until they are read; samples of CPU time in `NAME.PID.STARTTIME.cpu`.
//!
//! **Is it alive?** The process holds a lock on its file (of the open file description, `F_OFD_SETLK`), which lasts as long
//! as it has the file open or mapped: the kernel releases it when the process ends. That is right in containers too, where
//! process ids are others inside and outside.

mod buffer;
mod create;
mod entry;
mod folder;
mod request;
mod settled;

pub use buffer::{Buffer, ReadError};
pub use create::{Created, NewFile, create, create_cpu, create_stacks, own_start_time};
pub use entry::{Entry, NameError, check_name};
pub use folder::{RUNTIME_VARIABLE, list, runtime_folder};
pub use request::RequestError;
pub use settled::Settled;

/// How the names of published files end.
pub const SUFFIX: &str = ".heapgate";

/// Most slots of a published segment: 8 MiB. It bounds what a reader reads of one file, whatever its header says.
pub const MAX_PUBLISHED_SLOTS: usize = 256;
