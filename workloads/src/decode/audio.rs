//! Sound to decode: made, not recorded, and the same every time.

use crate::random::SplitMix64;
use crate::transformer::math::matrix_vector;

/// Samples a second.
const SAMPLE_RATE: f64 = 16_000.0;

/// Samples of one chunk: 20 ms.
pub const CHUNK_SAMPLES: usize = 320;

/// Mixed sounds: frequency in Hz and how often a second it swings by a tenth.
const VOICES: [(f64, f64); 4] = [(110.0, 0.7), (220.5, 1.1), (331.0, 1.9), (1_730.0, 3.1)];

/// A recording in chunks of 20 ms: tones that drift, over noise.
#[derive(Debug)]
pub struct Audio {
    samples: Vec<f32>,
}

impl Audio {
    /// So many chunks, with the noise of `seed`.
    #[must_use]
    pub fn synthesize(chunks: usize, seed: u64) -> Self {
        let mut noise = SplitMix64::new(seed);
        let sample = |index: usize| {
            let at_s = index as f64 / SAMPLE_RATE;
            let tones = VOICES.iter().map(|(hertz, swing)| {
                let turn = std::f64::consts::TAU * at_s;
                (turn * hertz + (turn * swing).sin() * 0.1 * hertz / swing).sin()
            });
            (0.2 * tones.sum::<f64>()) as f32 + 0.05 * noise.signed()
        };
        Self { samples: (0..chunks * CHUNK_SAMPLES).map(sample).collect() }
    }

    /// One chunk's samples.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn chunk(&self, index: usize) -> &[f32] {
        &self.samples[index * CHUNK_SAMPLES..][..CHUNK_SAMPLES]
    }
}

/// Projects chunks into a model's residual stream.
#[derive(Debug)]
pub struct Embedding {
    matrix: Vec<f32>,
    embedded: Vec<f32>,
}

impl Embedding {
    /// A projection to `width`, drawn from `seed`.
    #[must_use]
    pub fn seeded(width: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        // Samples are about 0.3 in size: what comes out is about 1.
        let scale = 6.0 / (CHUNK_SAMPLES as f32).sqrt();
        let matrix = (0..width * CHUNK_SAMPLES).map(|_| random.signed() * scale).collect();
        Self { matrix, embedded: vec![0.0; width] }
    }

    /// The chunk as the model takes it.
    pub fn embed(&mut self, chunk: &[f32]) -> &[f32] {
        matrix_vector(&self.matrix, chunk, &mut self.embedded);
        &self.embedded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_the_same_for_a_seed_and_never_clips() {
        let audio = Audio::synthesize(50, 1);
        assert_eq!(audio.samples, Audio::synthesize(50, 1).samples);
        assert_ne!(audio.samples, Audio::synthesize(50, 2).samples);
        assert!(audio.samples.iter().all(|x| x.abs() <= 1.0));
        let loudness = audio.samples.iter().map(|x| x * x).sum::<f32>() / audio.samples.len() as f32;
        assert!(loudness > 0.01, "{loudness}");
    }
}
