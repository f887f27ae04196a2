#include "reward/reward_function.h"

#include <string>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

Verdict judge(const char* function, const std::string& completion, const std::string& solution = "happy") {
  return find_reward_function(function).judge({completion, solution, "which expression?"});
}
double accuracy(const std::string& completion, const std::string& solution = "happy") {
  return judge("accuracy", completion, solution).value.value();
}
double format(const std::string& completion) {
  return judge("format", completion).value.value();
}

}  // namespace

TEST_CASE("an answer in its tag is compared with the solution, blanks around both ignored") {
  CHECK(accuracy("<think>wide smile</think><answer>\n happy\xC2\xA0</answer>") == 1);
  CHECK(accuracy("<answer>happy</answer>", " <answer> happy </answer> because") == 1);
  CHECK(accuracy("<answer>sad</answer>") == 0);
  CHECK(accuracy("<answer>smiling\nhappy</answer>", "<answer>smiling\nhappy</answer>") == 1);
}

TEST_CASE("accuracy minds letter case and punctuation") {
  CHECK(accuracy("<answer>Happy</answer>") == 0);
  CHECK(accuracy("<answer>happy.</answer>") == 0);
  CHECK(accuracy("<ANSWER>happy</ANSWER>") == 0);
}

TEST_CASE("without an answer tag the whole text is the answer") {
  CHECK(accuracy(" happy\n") == 1);
  CHECK(accuracy("I say happy") == 0);
  CHECK(accuracy("<answer>happy") == 0);
  CHECK(accuracy("happy</answer>") == 0);
}

TEST_CASE("only the first answer tag counts, and it ends at the first closing tag") {
  CHECK(accuracy("<answer>sad</answer><answer>happy</answer>") == 0);
  CHECK(accuracy("<answer>happy</answer><answer>sad</answer>") == 1);
  CHECK(answer_text("<answer><answer>happy</answer></answer>") == "<answer>happy");
  CHECK(answer_text("</answer><answer>happy</answer>") == "happy");
}

TEST_CASE("a wrong answer's verdict says why") {
  CHECK(judge("accuracy", "<answer>happy</answer>").reason == "ok");
  CHECK(judge("accuracy", "<answer>sad</answer>").reason == "label_mismatch");
  CHECK(judge("accuracy", "sad").reason == "no_answer_tag");
  CHECK(judge("format", "<answer>happy</answer>").reason == "bad_format");
  CHECK(judge("format", "<think></think><answer></answer>").reason == "ok");
}

TEST_CASE("the format is a thought, blanks, an answer and nothing else") {
  CHECK(format("<think>a\nb</think>\n\n<answer>happy</answer>") == 1);
  CHECK(format("<think></think><answer></answer>") == 1);
  CHECK(format("<think>a</think>\xE3\x80\x80\xC2\x85<answer>happy</answer>") == 1);
  CHECK(format(" <think>a</think><answer>happy</answer>") == 0);
  CHECK(format("<think>a</think><answer>happy</answer>\n") == 0);
  CHECK(format("<think>a</think>so<answer>happy</answer>") == 0);
  CHECK(format("<think>a<answer>happy</answer>") == 0);
  CHECK(format("<answer>happy</answer><think>a</think>") == 0);
  CHECK(format("<Think>a</Think><answer>happy</answer>") == 0);
  CHECK(format("<think></answer>") == 0);
  CHECK(format("") == 0);
}

TEST_CASE("lazy matching lets repeated and nested tags pass the format") {
  CHECK(format("<think>a</think><think>b</think><answer>happy</answer>") == 1);
  CHECK(format("<think>a</think><answer>happy</answer><answer>sad</answer>") == 1);
  CHECK(format("<think>a</think> no <think>b</think> <answer>happy</answer>") == 1);
  CHECK(format("<think>a</think><answer></think><answer>x</answer>") == 1);
  // The answer tag must open before the last nine bytes close it.
  CHECK(format("<think>a</think><answer</answer>") == 0);
}

TEST_CASE("an unknown reward function is refused with the list of those there are") {
  try {
    find_reward_function("acuracy");
    FAIL("not refused");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kConfig);
    CHECK(std::string(error.what()) == "no reward function is called `acuracy`; known: accuracy, format");
  }
}

}  // namespace ferro
