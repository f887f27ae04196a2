#include "model/config.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ferro::testing::MemoryFile file;
  const std::filesystem::path& path = file.hold(ferro::testing::text_of(data, size));
  ferro::testing::reads_or_refuses([&] {
    const ferro::ModelConfig config = ferro::ModelConfig::load(path);
    ferro::testing::must_hold(config.text.head_dim() > 0 && config.vision.head_dim() > 0, "heads of width 0");
    ferro::testing::must_hold(config.vision.patch_values() > 0, "patches without values");
  });
  ferro::testing::reads_or_refuses([&] {
    ferro::ModelConfig config;
    config.read_generation_config(path);
    for (const std::int32_t id : config.stop_ids())
      ferro::testing::must_hold(id >= 0 && id < config.text.vocab_size,
                                "an answer ends at an id that is none");
  });
  return 0;
}
