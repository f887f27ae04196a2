#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/dist/communicator.h"

namespace ferro {

// What ranks tell each other beside tensors.

/// The ranks' texts (any bytes), in rank order: the same on all. A collective.
std::vector<std::string> gather_texts(const std::string& own, Communicator& world);

/// Rank 0 makes a text, all get it. A collective.
std::string text_of_first(Communicator& world, const std::function<std::string()>& make);

/// Whether it holds on some rank. A collective.
bool any_rank(bool holds, Communicator& world);

/// Error{kConfig} on all ranks when a rank's `facts` (the same names on all) are not rank 0's: the first such
/// fact with both values.
void check_same_on_ranks(const std::map<std::string, std::string>& facts, Communicator& world);

/// Runs this rank's `job`; what ends it early ends the other ranks too, with the same message and code.
void run_as_rank(Communicator& world, const std::function<void()>& job);

/// The part of `count` things in a row that is `rank`'s of `ranks`: as equal as can be.
struct RankPart {
  std::size_t begin = 0, end = 0;
};
RankPart part_of_rank(std::size_t count, int rank, int ranks);
RankPart part_of_rank(std::size_t count, const Communicator& world);

}  // namespace ferro
