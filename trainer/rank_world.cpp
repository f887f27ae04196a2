#include "trainer/rank_world.h"

#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/torch_errors.h"

namespace ferro {

std::vector<std::string> gather_texts(const std::string& own, Communicator& world) {
  const int ranks = world.world_size();
  if (ranks == 1) return {own};
  // How long each rank's is, then all of them in a row.
  at::Tensor lengths = at::zeros({ranks}, at::kLong);
  lengths[world.rank()] = static_cast<std::int64_t>(own.size());
  lengths = lengths.to(world.device());
  world.all_gather(lengths, equal_bounds(ranks, ranks));
  lengths = lengths.cpu();
  std::vector<std::int64_t> bounds{0};
  for (int r = 0; r < ranks; ++r) bounds.push_back(bounds.back() + lengths.const_data_ptr<std::int64_t>()[r]);
  if (bounds.back() == 0) return std::vector<std::string>(static_cast<std::size_t>(ranks));
  at::Tensor all = at::empty({bounds.back()}, at::kByte);
  if (!own.empty())
    std::memcpy(all.data_ptr<std::uint8_t>() + bounds[static_cast<std::size_t>(world.rank())], own.data(),
                own.size());
  all = all.to(world.device());
  world.all_gather(all, bounds);
  all = all.cpu();
  const auto* bytes = reinterpret_cast<const char*>(all.const_data_ptr<std::uint8_t>());
  std::vector<std::string> texts;
  for (std::size_t r = 0; r + 1 < bounds.size(); ++r)
    texts.emplace_back(bytes + bounds[r], bytes + bounds[r + 1]);
  return texts;
}

std::string text_of_first(Communicator& world, const std::function<std::string()>& make) {
  return gather_texts(world.rank() == 0 ? make() : std::string(), world).front();
}

bool any_rank(bool holds, Communicator& world) {
  return world.world_size() == 1 ? holds : world.all_reduce_max(holds ? 1 : 0) != 0;
}

void check_same_on_ranks(const std::map<std::string, std::string>& facts, Communicator& world) {
  if (world.world_size() == 1) return;
  const std::vector<std::string> texts = gather_texts(nlohmann::json(facts).dump(), world);
  const auto first = nlohmann::json::parse(texts[0]).get<std::map<std::string, std::string>>();
  for (std::size_t rank = 1; rank < texts.size(); ++rank)
    for (const auto& [name, value] :
         nlohmann::json::parse(texts[rank]).get<std::map<std::string, std::string>>())
      if (const auto known = first.find(name); known == first.end() || known->second != value)
        fail(ErrorCode::kConfig, "{} differs between the ranks: rank 0 has `{}`, rank {} has `{}`", name,
             known == first.end() ? "" : known->second, rank, value);
}

void run_as_rank(Communicator& world, const std::function<void()>& job) {
  try {
    in_our_terms(job);
  } catch (const Error& error) {
    world.abandon(error);
    throw;
  } catch (const std::bad_alloc& error) {
    world.abandon(Error(ErrorCode::kOutOfMemory, "host memory ran out"));
    throw;
  } catch (const std::exception& error) {
    world.abandon(Error(ErrorCode::kInternal, error.what()));
    throw;
  }
}

RankPart part_of_rank(std::size_t count, int rank, int ranks) {
  const auto r = static_cast<std::size_t>(rank), all = static_cast<std::size_t>(ranks);
  return {count * r / all, count * (r + 1) / all};
}

RankPart part_of_rank(std::size_t count, const Communicator& world) {
  return part_of_rank(count, world.rank(), world.world_size());
}

}  // namespace ferro
