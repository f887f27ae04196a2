#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace ferro {

/// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): a pure
/// function from a 128-bit counter and a 64-bit key to 128 random bits.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// What a draw is for. Part of its key, so that two uses never share a stream. Never renumber.
enum class RandomPurpose : std::uint32_t {
  kSampling = 1,        ///< (sample id, epoch, generation, position)
  kDataOrder = 2,       ///< (epoch)
  kInitialisation = 3,  ///< (hash of the parameter's name)
  kAugmentation = 4,    ///< (sample id, epoch)
  kFaces = 5,           ///< (face index, field)
  kBootstrap = 6,       ///< (replicate)
  kLabels = 7,          ///< (row, copy)
  kTest = 8,
  kDropout = 9,    ///< (optimizer step, forward pass, hash of the layer's name)
  kRounding = 10,  ///< (optimizer step, element range)
};

/// A sequence of draws that is a pure function of (seed, purpose, coordinates): no state outlives
/// it. Coordinates are hashed (64-bit each) into the Philox key and counter.
class KeyedRandom {
 public:
  KeyedRandom(std::uint64_t seed, RandomPurpose purpose, std::initializer_list<std::uint64_t> coordinates);

  std::uint32_t next_u32();
  double uniform();                         ///< [0, 1), 53 bits.
  double uniform(double low, double high);  ///< [low, high).
  std::uint64_t below(std::uint64_t n);     ///< [0, n), unbiased; n > 0.
  double normal();                          ///< Mean 0, variance 1 (Box-Muller).

  /// out[i] = deviation * the (first + i)-th normal() of this stream from its beginning, in fp32. For long
  /// rows of draws: any part can be drawn by itself. The same bits on every processor; against normal()
  /// itself the last bits of the double differ, so that about one fp32 in a million is its neighbour.
  void fill_normals(std::uint64_t first, double deviation, std::span<float> out) const;

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

/// 64-bit FNV-1a then a finaliser: a name as a coordinate.
std::uint64_t coordinate_of(const char* text, std::size_t length);

}  // namespace ferro
