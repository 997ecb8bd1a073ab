//! The operators of a transformer one at a time, with a fresh buffer for everything or in place.
//!
//! Both variants are given the same values and must give the same answers to a millionth. Products are equal to the last
//! bit, and so are their checksums; the other operators take sums in another order, and theirs differ.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use allocator_api2::alloc::Global;
use allocator_api2::vec::Vec as Buffer;
use heapgate_bench::{Error, FigureSpec, Figures, ParamSpec, Params, Steps, Variant, Work, Workload};

use crate::random::SplitMix64;
use crate::transformer::math::checksum as hash_of;
use crate::transformer::operators::{BufferPool, allocating, inplace};

/// A fresh buffer for every intermediate and result.
pub const ALLOCATING: Variant =
    variant::<Allocating>("allocating", "operators with a fresh buffer for every intermediate and result");
/// No buffer but the input's, and pooled ones for products.
pub const INPLACE: Variant =
    variant::<InPlace>("inplace", "operators in place: no intermediates; products go to buffers of a pool");

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "op",
        default: "all",
        choices: &["matmul", "softmax", "layer_norm", "gelu", "all"],
        help: "which operator; all: one after another",
    },
    ParamSpec { name: "rows", default: "1024", choices: &[], help: "rows of an operator's input, up to 65536" },
    ParamSpec { name: "width", default: "128", choices: &[], help: "values in a row of it, up to 4096" },
];

const FIGURES: &[FigureSpec] = &[FigureSpec {
    name: "operator_mean_ns",
    help: "Time of an operator, its buffers taken and given back, without making its input and hashing its answer.",
}];

/// Linear layers that a matmul step goes through.
const LINEAR_LAYERS: usize = 4;
const SEED: u64 = 15;

const fn variant<F: Form + 'static>(name: &'static str, about: &'static str) -> Variant {
    Variant::new("operators", name, "pass", about, setup::<F>).params(PARAMS).figures(FIGURES)
}

/// What operators work with.
struct Operands {
    input: Vec<f32>,
    weights: [Vec<f32>; LINEAR_LAYERS],
    gain: Vec<f32>,
    offset: Vec<f32>,
    width: usize,
    pool: BufferPool<Global>,
}

/// Where an operator's answer is: a buffer of its own, or, if there is none, where the input was.
type Answer = Option<Buffer<f32>>;

/// One of the forms that operators have.
trait Form {
    fn matmul(operands: &mut Operands) -> Answer;
    fn softmax(operands: &mut Operands) -> Answer;
    fn layer_norm(operands: &mut Operands) -> Answer;
    fn gelu(operands: &mut Operands) -> Answer;

    /// Does with a buffer what this form does when nobody needs its answer any more.
    fn give_back(operands: &mut Operands, buffer: Buffer<f32>);
}

struct Allocating;

impl Form for Allocating {
    /// As it is commonly written: each layer's result lives to the end of the pass.
    fn matmul(operands: &mut Operands) -> Answer {
        let Operands { input, weights: [first, second, third, fourth], width, .. } = operands;
        let first = allocating::matmul(input, first, *width, &Global);
        let second = allocating::matmul(&first, second, *width, &Global);
        let third = allocating::matmul(&second, third, *width, &Global);
        Some(allocating::matmul(&third, fourth, *width, &Global))
    }

    fn softmax(operands: &mut Operands) -> Answer {
        Some(allocating::softmax(&operands.input, operands.width, &Global))
    }

    fn layer_norm(operands: &mut Operands) -> Answer {
        Some(allocating::layer_norm(&operands.input, &operands.gain, &operands.offset, &Global))
    }

    fn gelu(operands: &mut Operands) -> Answer {
        Some(allocating::gelu(&operands.input, &Global))
    }

    fn give_back(_: &mut Operands, buffer: Buffer<f32>) {
        drop(buffer);
    }
}

struct InPlace;

impl Form for InPlace {
    /// A layer's input goes back to the pool when its product is there: two buffers take turns.
    fn matmul(operands: &mut Operands) -> Answer {
        let Operands { input, weights, width, pool, .. } = operands;
        let mut last = pool.take(input.len());
        inplace::matmul_into(input, &weights[0], *width, &mut last);
        for weights in &weights[1..] {
            let mut next = pool.take(input.len());
            inplace::matmul_into(&last, weights, *width, &mut next);
            pool.give(last);
            last = next;
        }
        Some(last)
    }

    fn softmax(operands: &mut Operands) -> Answer {
        operands.input.chunks_exact_mut(operands.width).for_each(inplace::softmax);
        None
    }

    fn layer_norm(operands: &mut Operands) -> Answer {
        let Operands { input, gain, offset, width, .. } = operands;
        input.chunks_exact_mut(*width).for_each(|row| inplace::layer_norm(row, gain, offset));
        None
    }

    fn gelu(operands: &mut Operands) -> Answer {
        inplace::gelu(&mut operands.input);
        None
    }

    fn give_back(operands: &mut Operands, buffer: Buffer<f32>) {
        operands.pool.give(buffer);
    }
}

/// An operator and how many passes of it are measured: enough for about half a second.
type Operator = (fn(&mut Operands) -> Answer, u64);

struct Run<F> {
    operands: Operands,
    random: SplitMix64,
    operators: Vec<Operator>,
    /// Time in operators alone, and how many that were.
    time: Duration,
    timed: u32,
    form: PhantomData<F>,
}

fn setup<F: Form + 'static>(params: &Params) -> Result<Box<dyn Workload>, Error> {
    let rows: usize = params.number("rows", 1..=65_536)?;
    let width: usize = params.number("width", 1..=4_096)?;
    let all: [(&str, Operator); 4] = [
        ("matmul", (F::matmul, 48)),
        ("softmax", (F::softmax, 256)),
        ("layer_norm", (F::layer_norm, 256)),
        ("gelu", (F::gelu, 256)),
    ];
    let wanted = params.get("op");
    let operators = all.iter().filter(|(name, _)| wanted == "all" || wanted == *name).map(|(_, operator)| *operator);
    let mut random = SplitMix64::new(SEED);
    let scale = (3.0 / width as f32).sqrt();
    let mut draw = |length: usize, scale: f32| (0..length).map(|_| random.signed() * scale).collect::<Vec<f32>>();
    let operands = Operands {
        input: vec![0.0; rows * width],
        weights: std::array::from_fn(|_| draw(width * width, scale)),
        gain: draw(width, 1.0),
        offset: draw(width, 1.0),
        width,
        pool: BufferPool::new(Global),
    };
    Ok(Box::new(Run::<F> {
        operands,
        random,
        operators: operators.collect(),
        time: Duration::ZERO,
        timed: 0,
        form: PhantomData,
    }))
}

impl<F: Form> Workload for Run<F> {
    fn steps(&self) -> Steps {
        let measure = self.operators.iter().map(|(_, passes)| *passes).min().unwrap_or_default();
        Steps { warmup: measure / 4, measure, ..Steps::default() }
    }

    fn step(&mut self) -> Work {
        let mut checksum = 0;
        for (operator, _) in &self.operators {
            // Operators in place leave their answer where the input was.
            for x in &mut self.operands.input {
                *x = 4.0 * self.random.signed();
            }
            let start = Instant::now();
            let answer = operator(&mut self.operands);
            self.time += start.elapsed();
            let hash = hash_of(answer.as_deref().unwrap_or(&self.operands.input));
            let start = Instant::now();
            if let Some(buffer) = answer {
                F::give_back(&mut self.operands, buffer);
            }
            self.time += start.elapsed();
            self.timed += 1;
            checksum = hash ^ u64::rotate_left(checksum, 1);
        }
        Work { units: 1, checksum }
    }

    fn measure_begins(&mut self) {
        (self.time, self.timed) = (Duration::ZERO, 0);
    }

    fn figures(&mut self, figures: &mut Figures) {
        if self.timed > 0 {
            figures.set("operator_mean_ns", self.time.as_nanos() as f64 / f64::from(self.timed));
        }
    }
}
