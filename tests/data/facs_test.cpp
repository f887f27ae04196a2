#include "data/facs.h"

#include <set>
#include <sstream>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

KeyedRandom draw(std::uint64_t row) {
  return KeyedRandom(7, RandomPurpose::kTest, {row});
}

TEST_CASE("every expression's units exist and ascend") {
  std::set<int> known;
  for (const ActionUnit& unit : action_units()) known.insert(unit.number);
  REQUIRE(expression_labels().size() == 8);
  for (const std::string& label : expression_labels()) {
    const std::vector<int> units = action_units_of(label);
    CHECK(std::is_sorted(units.begin(), units.end()));
    for (const int unit : units) CHECK(known.count(unit) == 1);
    CHECK(units.empty() == (label == "neutral"));
  }
  CHECK(action_units_of("happiness") == std::vector<int>{6, 12});
}

TEST_CASE("the published sets' other spellings name the same expression") {
  CHECK(canonical_expression("Angry") == "anger");
  CHECK(canonical_expression("happy") == "happiness");
  CHECK(canonical_expression("sad") == "sadness");
  CHECK(canonical_expression("bored").empty());
  CHECK(action_units_of("sad") == action_units_of("sadness"));
}

TEST_CASE("an unknown label or unit is an error that names it") {
  CHECK_THROWS_WITH(action_units_of("bored"), Catch::Contains("bored"));
  KeyedRandom random = draw(0);
  const std::vector<int> units{3};
  CHECK_THROWS_WITH(reasoning_text("anger", units, random), Catch::Contains("3"));
}

TEST_CASE("the reasoning names exactly the units given, in both styles") {
  for (std::uint64_t row = 0; row < 50; ++row) {
    for (const std::string& label : expression_labels()) {
      const std::vector<int> units = action_units_of(label);
      KeyedRandom random = draw(row);
      const std::string text = reasoning_text(label, units, random);
      INFO(text);
      for (const ActionUnit& unit : action_units()) {
        const bool named = text.find(fmt::format("(AU{})", unit.number)) != std::string::npos;
        CHECK(named == (std::find(units.begin(), units.end(), unit.number) != units.end()));
      }
      CHECK(text.rfind("<think>", 0) == 0);
      CHECK(text.find("</think><answer>" + label + "</answer>") != std::string::npos);
      std::istringstream words(text);
      const auto count = std::distance(std::istream_iterator<std::string>(words), {});
      CHECK(count <= 40);
    }
  }
}

TEST_CASE("compact reasoning gives different units different words") {
  std::set<std::string> seen;
  for (const ActionUnit& unit : action_units()) {
    KeyedRandom random = draw(1);
    const std::vector<int> units{unit.number};
    seen.insert(reasoning_text("anger", units, random, ReasoningStyle::kCompact));
  }
  CHECK(seen.size() == action_units().size());
}

TEST_CASE("wording varies with the key and repeats with the same key") {
  std::set<std::string> seen;
  const std::vector<int> units = action_units_of("fear");
  for (std::uint64_t row = 0; row < 20; ++row) {
    KeyedRandom first = draw(row), second = draw(row);
    const std::string text = reasoning_text("fear", units, first);
    CHECK(text == reasoning_text("fear", units, second));
    seen.insert(text);
  }
  CHECK(seen.size() > 5);
}

}  // namespace
}  // namespace ferro
