#include "core/config_docs.h"

#include <catch2/catch.hpp>

#include "tests/core/sample_config.h"

namespace ferro {

TEST_CASE("the reference lists each key with type, default, range and meaning") {
  CHECK(config_markdown<testing::SampleConfig>("Sample", "For tests.") ==
        "## Sample\n\nFor tests.\n\n"
        "| key | type | default | range | meaning |\n|---|---|---|---|---|\n"
        "| `name` | text | `\"run\"` |  | Name of the run. |\n"
        "| `enabled` | true/false | `false` |  | Whether. |\n"
        "| `small` | integer | `3` | 1 to 10 | A small number. |\n"
        "| `steps` | integer | `0` | 0 to 1000000000 | Steps. |\n"
        "| `ratio` | number | `0.25` |  | Any number. |\n"
        "| `words` | list of text | `[\"a\", \"b\"]` |  | Words. |\n"
        "| `weights` | list of numbers | `[]` |  | Weights. |\n"
        "| `sizes` | list of integers | `[1, 2]` |  | Sizes. |\n"
        "\n### `optimizer`\n\nHow steps are made.\n\n"
        "| key | type | default | range | meaning |\n|---|---|---|---|---|\n"
        "| `optimizer.rate` | number | `1e-06` | at least 0.0 | Learning rate. |\n"
        "| `optimizer.share` | number | `0.5` | 0.0 to 1.0 | A share. |\n"
        "| `optimizer.shape` | text | `\"cosine\"` | `cosine`, `linear` | Shape \\| of the schedule. |\n");
}

}  // namespace ferro
