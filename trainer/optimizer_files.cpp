#include "trainer/optimizer_files.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/fail_point.h"
#include "model/safetensors.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kIndexFile = "index.json";
constexpr int kFormatVersion = 2;  // 1 had no counts by part, and other blocks of 8-bit moments.

const char* kind_of(const AdamW& optimizer) {
  return optimizer.has_8_bit_moments() ? "int8" : "float32";
}

/// Names and places: what an element of the flat buffer belongs to.
json parameters_of(const ParameterArena& trained) {
  json parameters = json::array();
  for (std::size_t i = 0; i < trained.table.parameters.size(); ++i) {
    if (trained.trained.offsets[i] < 0) continue;
    const ParameterInfo& info = trained.table.parameters[i];
    parameters.push_back({{"name", info.name}, {"begin", trained.trained.offsets[i]}, {"size", info.size}});
  }
  return parameters;
}

/// A pair of tensors, named by what it holds.
struct Pair {
  const char* names[2];
  at::Tensor tensors[2];
};
Pair moments_of(const AdamW::State& state) {
  return {{"first_moment", "second_moment"}, {state.first_moment, state.second_moment}};
}
Pair scales_of(const AdamW::State& state) {
  return {{"first_scale", "second_scale"}, {state.first_scale, state.second_scale}};
}

/// Returns the file's checksum.
std::string write_pair(const fs::path& staged, const std::string& file, const Pair& pair) {
  const std::vector<NamedShape> shapes{{pair.names[0], pair.tensors[0].sizes().vec()},
                                       {pair.names[1], pair.tensors[1].sizes().vec()}};
  return write_safetensors(
      staged / "optimizer" / file, shapes, pair.tensors[0].scalar_type(),
      [&](const std::string& name) { return pair.tensors[name == pair.names[0] ? 0 : 1]; });
}

/// Reads index.json and the files that it names.
class OptimizerReader {
 public:
  explicit OptimizerReader(const fs::path& folder) : folder_(folder), file_(folder / kIndexFile) {
    index_ = json::parse(read_file(file_), nullptr, false);
    if (!index_.is_object()) refuse("not a JSON object");
  }

  void read(AdamW& optimizer, const ParameterArena& trained) const {
    if (index_.at("format_version") != kFormatVersion)
      refuse(fmt::format("format_version is {}, this program reads {}", index_.at("format_version").dump(),
                         kFormatVersion));
    if (index_.at("state_dtype") != kind_of(optimizer))
      refuse(fmt::format("moments are of {}, the run's of {}", index_.at("state_dtype").dump(),
                         kind_of(optimizer)));
    if (index_.at("elements") != optimizer.size() || index_.at("parameters") != parameters_of(trained))
      refuse("moments of other parameters than the run trains");
    const auto steps = index_.at("steps_done").get<std::int64_t>();
    if (steps < 0) refuse("a negative number of steps");
    optimizer.restore(steps, updates(steps), trained.weights);
    if (steps == 0) return;
    const AdamW::Slice& slice = optimizer.slice();
    fill(moments_of(optimizer.state()), optimizer.size(), slice.begin, {"file", "begin", "end"});
    if (optimizer.has_8_bit_moments())
      fill(scales_of(optimizer.state()), optimizer.blocks(), slice.block_begin,
           {"scales_file", "block_begin", "block_end"});
  }

 private:
  PartUpdates updates(std::int64_t steps) const {
    const json& updates = index_.at("updates");
    const auto of = [&](const char* part) {
      const auto count = updates.at(part).get<std::int64_t>();
      if (count < 0 || count > steps) refuse(fmt::format("{} updates of {} in {} steps", count, part, steps));
      return count;
    };
    return {of("vision"), of("merger"), of("language")};
  }
  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorCode::kData, "{}: {}", file_.string(), why);
  }
  struct Keys {
    const char *file, *begin, *end;
  };
  /// Copies what each writer has of the pair, which is the part of `size` elements from `own_begin` on.
  void fill(const Pair& pair, std::int64_t size, std::int64_t own_begin, const Keys& keys) const {
    const std::int64_t own_end = own_begin + pair.tensors[0].numel();
    std::int64_t reached = 0;
    for (const json& writer : index_.at("writers")) {
      const auto begin = writer.at(keys.begin).get<std::int64_t>(),
                 end = writer.at(keys.end).get<std::int64_t>();
      const auto name = writer.at(keys.file).get<std::string>();
      if (begin != reached || end < begin || end > size)
        refuse(fmt::format("{}: range {} to {} after {} of {}", name, begin, end, reached, size));
      if (fs::path(name).has_parent_path() || name == "..") refuse(name + " is no name of a file");
      reached = end;
      const std::int64_t from = std::max(begin, own_begin), to = std::min(end, own_end);
      if (from >= to) continue;
      const SafetensorsFile tensors(folder_ / name);
      for (int i = 0; i < 2; ++i) {
        if (!tensors.contains(pair.names[i])) refuse(fmt::format("{} has no {}", name, pair.names[i]));
        const at::Tensor part = tensors.tensor(pair.names[i]);
        if (part.numel() != end - begin || part.scalar_type() != pair.tensors[i].scalar_type())
          refuse(fmt::format("{}: {} is not {} elements of its kind", name, pair.names[i], end - begin));
        pair.tensors[i]
            .narrow(0, from - own_begin, to - from)
            .copy_(part.view({-1}).narrow(0, from - begin, to - from));
      }
    }
    if (reached != size) refuse(fmt::format("ranges end at {} of {}", reached, size));
  }

  fs::path folder_, file_;
  json index_;
};

}  // namespace

json write_moments(const fs::path& staged, int rank, AdamW& optimizer) {
  if (optimizer.steps_done() == 0) return nullptr;
  create_folders(staged / "optimizer");
  const AdamW::State state = optimizer.state();
  const AdamW::Slice& slice = optimizer.slice();
  const std::string file = fmt::format("rank-{:03d}.safetensors", rank),
                    scales = fmt::format("rank-{:03d}.scales.safetensors", rank);
  json writer{{"file", file}, {"begin", slice.begin}, {"end", slice.end}}, sums;
  sums[file] = write_pair(staged, file, moments_of(state));
  if (optimizer.has_8_bit_moments()) {
    writer.update(
        {{"scales_file", scales}, {"block_begin", slice.block_begin}, {"block_end", slice.block_end}});
    sums[scales] = write_pair(staged, scales, scales_of(state));
  }
  return {{"writer", writer}, {"sums", sums}};
}

void write_optimizer_index(CheckpointBuilder& checkpoint, const AdamW& optimizer,
                           const ParameterArena& trained, const std::vector<json>& moments) {
  create_folders(checkpoint.path() / "optimizer");
  json writers = json::array();
  for (const json& part : moments) {
    if (part.is_null()) continue;
    writers.push_back(part.at("writer"));
    for (const auto& [file, sum] : part.at("sums").items())
      checkpoint.note(fs::path("optimizer") / file, sum.get<std::string>());
  }
  const PartUpdates& updates = optimizer.updates();
  const json index{
      {"format_version", kFormatVersion},
      {"state_dtype", kind_of(optimizer)},
      {"steps_done", optimizer.steps_done()},
      {"updates", {{"vision", updates.vision}, {"merger", updates.merger}, {"language", updates.language}}},
      {"elements", optimizer.size()},
      {"parameters", parameters_of(trained)},
      {"writers", writers}};
  write_file_atomically(checkpoint.path() / "optimizer" / kIndexFile, index.dump(1) + "\n");
}

void write_optimizer(CheckpointBuilder& checkpoint, AdamW& optimizer, const ParameterArena& trained) {
  write_optimizer_index(checkpoint, optimizer, trained, {write_moments(checkpoint.path(), 0, optimizer)});
}

void read_optimizer(const fs::path& checkpoint, AdamW& optimizer, const ParameterArena& trained) {
  const fs::path folder = checkpoint / "optimizer";
  try {
    OptimizerReader(folder).read(optimizer, trained);
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: {}", (folder / kIndexFile).string(), error.what());
  }
}

}  // namespace ferro
