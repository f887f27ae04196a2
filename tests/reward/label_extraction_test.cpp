#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "reward/classification_metrics.h"

namespace ferro {
namespace {

const std::vector<std::string> kFerplus{"angry", "contempt", "disgust", "fear",
                                        "happy", "neutral",  "sad",     "surprise"};
const std::vector<std::string> kRafdb{"surprise", "fear",  "disgust", "happiness",
                                      "sadness",  "anger", "neutral"};

std::string ferplus(const std::string& response) {
  return extract_label(response, kFerplus, "ferplus");
}

}  // namespace

TEST_CASE("the first answer tag decides before the rest of the response") {
  CHECK(ferplus("angry? <answer>sad</answer>") == "sad");
  CHECK(ferplus("<ANSWER> Sad! </Answer> happy") == "sad");
  CHECK(ferplus("<answer>sad</answer><answer>angry</answer>") == "sad");
  CHECK(ferplus("<an\xC5\xBFwer>sad</answer> angry") == "sad");
}

TEST_CASE("candidates are tried in their order, as substrings") {
  CHECK(ferplus("<answer>sad or fear</answer>") == "fear");
  CHECK(ferplus("<answer>unhappy, sad</answer>") == "happy");
  CHECK(extract_label("danger", kRafdb, "rafdb") == "anger");
}

TEST_CASE("an answer whose text spans lines is not seen, blanks around it aside") {
  CHECK(ferplus("happy <answer>the face\nis sad</answer>") == "happy");
  CHECK(ferplus("happy <answer>\n sad \n</answer>") == "sad");
  CHECK(ferplus("happy <answer>the face\n<answer>sad</answer>") == "sad");
  CHECK(ferplus("happy <answer>a\nb</answer> <answer>sad</answer>") == "sad");
}

TEST_CASE("an answer without a label leaves the search to the whole response") {
  CHECK(ferplus("I see fear <answer></answer>") == "fear");
  CHECK(ferplus("I see fear <answer>42</answer>") == "fear");
  CHECK(ferplus("I see nothing <answer>42</answer>") == "unknown");
}

TEST_CASE("synonyms come last and differ between data sets") {
  CHECK(ferplus("full of joy") == "happy");
  CHECK(ferplus("sorrow, joy") == "happy");
  CHECK(ferplus("scorn") == "contempt");
  CHECK(ferplus("a mad face") == "unknown");
  CHECK(extract_label("a mad face", std::vector<std::string>{"anger", "fear"}, "affectnet") == "anger");
  CHECK(extract_label("a mad face", kRafdb, "rafdb") == "unknown");
  CHECK(extract_label("a mad face", kFerplus, "sfew_2.0") == "angry");
  CHECK(extract_label("joy", kRafdb, "rafdb") == "happiness");
  CHECK(extract_label("so sad", kRafdb, "rafdb") == "sadness");
  CHECK(extract_label("blank stare", kRafdb, "my_faces") == "neutral");
  CHECK(extract_label("joy", kRafdb, "my_faces") == "unknown");
  CHECK(extract_label("shoc\xE2\x84\xAA", kRafdb, "rafdb") == "surprise");
}

TEST_CASE("a synonym of a label that is no candidate is no answer") {
  CHECK(extract_label("terror", std::vector<std::string>{"happy", "sad"}, "ferplus") == "unknown");
}

TEST_CASE("an empty candidate is found in no text") {
  const std::vector<std::string> candidates{"", "fear"};
  CHECK(extract_label("<answer>fear</answer>", candidates, "") == "fear");
  CHECK(extract_label("nothing of use", candidates, "") == "unknown");
}

}  // namespace ferro
