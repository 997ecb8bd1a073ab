//! What the tables of unwinding say of one call site: a row of the DWARF call frame information (DWARF 5, section 6.4), as
//! `.eh_frame` has it (Linux Standard Base, "Exception Frames"), in the forms that compilers write for ordinary functions.
//! Everything else is none: the caller then walks otherwise.

/// The stack's pointer and the frame's, and the place of the return address, by their DWARF numbers on x86-64.
const RBP: u64 = 6;
const RSP: u64 = 7;
const RETURN: u64 = 16;

/// Rows that a function remembers inside one another; compilers need one.
const REMEMBERED: usize = 4;

/// How a caller's registers follow from those of the function it called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// The canonical frame address (the caller's stack pointer) is a register and an offset, 8 bytes below it is the
    /// return address, and the caller's frame pointer is unchanged, or at an offset from that address.
    Caller { from_rbp: bool, cfa_offset: i64, rbp_offset: Option<i64> },
    /// There is no caller: the thread's first function.
    End,
}

/// The entry (FDE) of a function and the common one (CIE) that it is based on, both from behind their length and, of the
/// function's, its pointer to the common one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub common: &'a [u8],
    pub function: &'a [u8],
    /// Where the function begins.
    pub begin: u64,
}

/// Where a register of the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Unchanged,
    At(i64),
    Undefined,
    Otherwise,
}

#[derive(Debug, Clone, Copy)]
struct Registers {
    /// Register and offset; none if it is an expression's value.
    cfa: Option<(u64, i64)>,
    rbp: Saved,
    ret: Saved,
}

#[derive(Debug, Clone, Copy)]
struct Common {
    code_factor: u64,
    data_factor: i64,
    /// How addresses in the function's entry are written.
    encoding: u8,
    has_data: bool,
}

impl Entry<'_> {
    /// The row at `pc`, an address in the function.
    pub(super) fn row(&self, pc: u64) -> Option<Row> {
        let mut common = Bytes(self.common);
        let said = Common::read(&mut common)?;
        let mut function = Bytes(self.function);
        for _ in ["begin", "length"] {
            function.address(said.encoding)?;
        }
        if said.has_data {
            let length = function.uleb()?;
            function.skip(length)?;
        }
        let nothing = Registers { cfa: None, rbp: Saved::Unchanged, ret: Saved::Unchanged };
        let initial = said.run(common, nothing, nothing, (self.begin, u64::MAX))?;
        let Registers { cfa, rbp, ret } = said.run(function, initial, initial, (self.begin, pc))?;
        if ret == Saved::Undefined {
            return Some(Row::End);
        }
        let (register, cfa_offset) = cfa?;
        let rbp_offset = match rbp {
            Saved::Unchanged | Saved::Undefined => None,
            Saved::At(offset) => Some(offset),
            Saved::Otherwise => return None,
        };
        let is_ordinary = ret == Saved::At(-8) && (register == RSP || register == RBP);
        is_ordinary.then_some(Row::Caller { from_rbp: register == RBP, cfa_offset, rbp_offset })
    }
}

impl Common {
    /// Leaves the instructions in `bytes`.
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        let is_common = bytes.fixed(4)? == 0;
        let version = bytes.u8()?;
        let end = bytes.0.iter().position(|&byte| byte == 0)?;
        let augmentation = bytes.0.get(..end)?;
        bytes.skip(end as u64 + 1)?;
        let (code_factor, data_factor) = (bytes.uleb()?, bytes.sleb()?);
        let ret = if version == 1 { u64::from(bytes.u8()?) } else { bytes.uleb()? };
        if !is_common || !matches!(version, 1 | 3) || ret != RETURN {
            return None;
        }
        let mut common = Self { code_factor, data_factor, encoding: 0, has_data: false };
        let Some((&first, rest)) = augmentation.split_first() else { return Some(common) };
        if first != b'z' {
            return None;
        }
        common.has_data = true;
        let length = bytes.uleb()?;
        let mut data = Bytes(bytes.0.get(..usize::try_from(length).ok()?)?);
        bytes.skip(length)?;
        for letter in rest {
            match letter {
                b'R' => common.encoding = data.u8()?,
                b'L' => data.skip(1)?,
                b'P' => {
                    let encoding = data.u8()?;
                    data.address(encoding)?;
                }
                // 'S' is a signal's frame: its registers are the interrupted function's.
                _ => return None,
            }
        }
        Some(common)
    }

    /// The registers after those `instructions` that hold at `pc`, of a function from `begin` on.
    fn run(
        &self,
        mut instructions: Bytes<'_>,
        mut now: Registers,
        initial: Registers,
        (begin, pc): (u64, u64),
    ) -> Option<Registers> {
        let (mut at, mut remembered, mut depth) = (begin, [now; REMEMBERED], 0);
        while let Some(instruction) = instructions.u8() {
            let low = u64::from(instruction & 0x3f);
            let mut advance = None;
            match instruction {
                // advance_loc, offset, restore: with an operand in the low bits.
                0x40..=0x7f => advance = Some(low),
                0x80..=0xbf => now.save(low, self.offset(instructions.uleb()?)?),
                0xc0..=0xff => now.restore(low, initial),
                // nop
                0x00 => {}
                // advance_loc1, 2, 4
                0x02..=0x04 => advance = Some(instructions.fixed(1 << (instruction - 2))?),
                // offset_extended, offset_extended_sf
                0x05 => now.save(instructions.uleb()?, self.offset(instructions.uleb()?)?),
                0x11 => now.save(instructions.uleb()?, Saved::At(instructions.sleb()?.checked_mul(self.data_factor)?)),
                // restore_extended, undefined, same_value
                0x06 => now.restore(instructions.uleb()?, initial),
                0x07 => now.save(instructions.uleb()?, Saved::Undefined),
                0x08 => now.save(instructions.uleb()?, Saved::Unchanged),
                // remember_state, restore_state
                0x0a => {
                    *remembered.get_mut(depth)? = now;
                    depth += 1;
                }
                0x0b => {
                    depth = depth.checked_sub(1)?;
                    now = *remembered.get(depth)?;
                }
                // def_cfa, def_cfa_sf
                0x0c => now.cfa = Some((instructions.uleb()?, i64::try_from(instructions.uleb()?).ok()?)),
                0x12 => now.cfa = Some((instructions.uleb()?, instructions.sleb()?.checked_mul(self.data_factor)?)),
                // def_cfa_register; def_cfa_offset, and its signed form
                0x0d => now.cfa = Some((instructions.uleb()?, now.cfa?.1)),
                0x0e => now.cfa = Some((now.cfa?.0, i64::try_from(instructions.uleb()?).ok()?)),
                0x13 => now.cfa = Some((now.cfa?.0, instructions.sleb()?.checked_mul(self.data_factor)?)),
                // def_cfa_expression
                0x0f => {
                    now.cfa = None;
                    instructions.skip_block()?;
                }
                // expression, val_expression
                0x10 | 0x16 => {
                    now.save(instructions.uleb()?, Saved::Otherwise);
                    instructions.skip_block()?;
                }
                // register, val_offset; val_offset_sf takes a signed number, which is as long
                0x09 | 0x14 | 0x15 => {
                    now.save(instructions.uleb()?, Saved::Otherwise);
                    instructions.uleb()?;
                }
                // GNU_args_size says nothing of registers.
                0x2e => {
                    instructions.uleb()?;
                }
                _ => return None,
            }
            if let Some(delta) = advance {
                at = at.checked_add(delta.checked_mul(self.code_factor)?)?;
                if at > pc {
                    return Some(now);
                }
            }
        }
        Some(now)
    }

    fn offset(&self, factored: u64) -> Option<Saved> {
        Some(Saved::At(i64::try_from(factored).ok()?.checked_mul(self.data_factor)?))
    }
}

impl Registers {
    fn save(&mut self, register: u64, saved: Saved) {
        match register {
            RBP => self.rbp = saved,
            RETURN => self.ret = saved,
            _ => {}
        }
    }

    fn restore(&mut self, register: u64, initial: Self) {
        match register {
            RBP => self.rbp = initial.rbp,
            RETURN => self.ret = initial.ret,
            _ => {}
        }
    }
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// An unsigned number of so many bytes, at most 8.
    fn fixed(&mut self, bytes: usize) -> Option<u64> {
        let number = self.0.get(..bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        self.0 = self.0.get(bytes..)?;
        Some(number)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn skip_block(&mut self) -> Option<()> {
        let length = self.uleb()?;
        self.skip(length)
    }

    /// The bits of a number in base 128, and how many.
    fn leb(&mut self) -> Option<(u64, u32)> {
        let (mut number, mut bits) = (0_u64, 0);
        loop {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f).checked_shl(bits)?;
            bits += 7;
            if byte & 0x80 == 0 {
                return Some((number, bits));
            }
        }
    }

    fn uleb(&mut self) -> Option<u64> {
        self.leb().map(|(number, _)| number)
    }

    fn sleb(&mut self) -> Option<i64> {
        let (number, bits) = self.leb()?;
        let unused = u64::BITS.saturating_sub(bits);
        Some((number << unused).cast_signed() >> unused)
    }

    /// Passes over an address in an encoding (`DW_EH_PE_*`), whatever it is relative to.
    fn address(&mut self, encoding: u8) -> Option<()> {
        /// The form that is padded to the next multiple of its size.
        const ALIGNED: u8 = 0x50;
        /// What holds an address of the address, in the same form.
        const INDIRECT: u8 = 0x80;
        if encoding & !INDIRECT == ALIGNED {
            return None;
        }
        match encoding & 0x0f {
            0x00 | 0x04 | 0x0c => self.skip(8),
            0x03 | 0x0b => self.skip(4),
            0x02 | 0x0a => self.skip(2),
            0x01 | 0x09 => self.leb().map(|_| ()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What compilers write: version 1, addresses as 4 bytes relative to their place, CFA = rsp + 8, return address at CFA - 8.
    const COMMON: &[u8] = &[0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0];

    fn entry(instructions: &[u8]) -> Vec<u8> {
        [&[1, 2, 3, 4, 5, 6, 7, 8, 0], instructions].concat()
    }

    fn row(common: &[u8], instructions: &[u8], pc: u64) -> Option<Row> {
        Entry { common, function: &entry(instructions), begin: 1000 }.row(pc)
    }

    fn by_rsp(cfa_offset: i64, rbp_offset: Option<i64>) -> Option<Row> {
        Some(Row::Caller { from_rbp: false, cfa_offset, rbp_offset })
    }

    #[test]
    fn rows_hold_from_their_address_on() {
        // push rbp at 1001; mov rbp, rsp at 1004; sub rsp via a larger advance, then back.
        let prologue = [0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x02, 100, 0x0a, 0x0c, 7, 8, 0xc6, 0x41, 0x0b];
        let by_rbp = Some(Row::Caller { from_rbp: true, cfa_offset: 16, rbp_offset: Some(-16) });
        for (pc, expected) in [
            (1000, by_rsp(8, None)),
            (1001, by_rsp(16, Some(-16))),
            (1003, by_rsp(16, Some(-16))),
            (1004, by_rbp),
            (1103, by_rbp),
            (1104, by_rsp(8, None)),
            (1105, by_rbp),
            (9999, by_rbp),
        ] {
            assert_eq!(row(COMMON, &prologue, pc), expected, "{pc}");
        }
    }

    #[test]
    fn numbers_of_several_bytes_and_signs() {
        assert_eq!(row(COMMON, &[0x0e, 0x88, 0x20], 1000), by_rsp(4104, None));
        assert_eq!(row(COMMON, &[0x12, 7, 0x60], 1000), by_rsp(256, None), "-32 times the factor of -8");
        assert_eq!(row(COMMON, &[0x11, 6, 0x7f], 1000), by_rsp(8, Some(8)));
        let mut long = Bytes(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(long.uleb(), None, "more than 64 bits");
        assert_eq!(Bytes(&[0x80, 0x7f]).sleb(), Some(-128));
    }

    #[test]
    fn the_first_function_has_no_caller() {
        assert_eq!(row(COMMON, &[0x07, 16], 1000), Some(Row::End));
    }

    #[test]
    fn what_is_not_ordinary_is_none() {
        let none = |common: &[u8], instructions: &[u8]| assert_eq!(row(common, instructions, 1000), None);
        none(COMMON, &[0x0f, 2, 0x77, 8]);
        none(COMMON, &[0x10, 6, 1, 0x77]);
        none(COMMON, &[0x09, 16, 0]);
        none(COMMON, &[0x0d, 10]);
        none(COMMON, &[0x3f]);
        none(COMMON, &[0x0b]);
        none(COMMON, &[0x90, 2]);
        let signal: Vec<u8> = COMMON.iter().map(|&byte| if byte == b'R' { b'S' } else { byte }).collect();
        none(&signal, &[]);
    }

    #[test]
    fn an_entry_that_is_cut_or_changed_anywhere_is_read_without_harm() {
        let prologue = entry(&[0x41, 0x0e, 16, 0x86, 2, 0x0a, 0x0c, 7, 8, 0x0b, 0x10, 6, 1, 0x77, 0x2e, 3]);
        for whole in [COMMON, &prologue] {
            for cut in 0..whole.len() {
                let (common, function) =
                    if whole == COMMON { (&whole[..cut], &prologue[..]) } else { (COMMON, &whole[..cut]) };
                let _ = Entry { common, function, begin: 1000 }.row(1005);
            }
            for (at, to) in (0..whole.len()).flat_map(|at| (0..=u8::MAX).map(move |to| (at, to))) {
                let mut changed = whole.to_vec();
                changed[at] = to;
                let (common, function) =
                    if whole == COMMON { (&changed[..], &prologue[..]) } else { (COMMON, &changed[..]) };
                let _ = Entry { common, function, begin: 1000 }.row(1005);
            }
        }
    }
}
