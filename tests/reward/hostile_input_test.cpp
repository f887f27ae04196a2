#include <chrono>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "reward/classification_metrics.h"
#include "reward/reward_function.h"

namespace ferro {
namespace {

constexpr std::size_t kHostileBytes = 10 << 20;

std::string repeated(const std::string& piece) {
  std::string text;
  text.reserve(kHostileBytes + piece.size());
  while (text.size() < kHostileBytes) text += piece;
  return text;
}

/// What makes a backtracking or rescanning matcher quadratic, each ten megabytes.
std::vector<std::string> hostile_texts() {
  const std::string opens = repeated("<answer>");
  return {repeated(std::string(1, '\0')),
          repeated("\xE3\x80"),
          repeated(" "),
          repeated("<"),
          opens,
          opens + "\nx</answer>",
          opens + repeated("\n") + "x</answer>",
          repeated("<answer> \n x</answer>"),
          repeated("<answer>\n"),
          repeated("</answer>"),
          "<think>" + repeated("</think> ") + "</answer>",
          "<think>" + repeated("</think>\xE2\x80\x80") + "<answer></answer>",
          "<answer>" + repeated("\xC2\xA0") + "x" + repeated("\xC2\xA0") + "</answer>"};
}

}  // namespace

TEST_CASE("ten megabytes of hostile text are judged in linear time") {
  const std::vector<std::string> candidates{"angry", "sad"};
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : hostile_texts()) {
    for (const RewardFunction& function : reward_functions()) {
      const Verdict verdict = function.judge({text, "sad", "q"});
      CHECK(verdict.value.has_value());
    }
    CHECK(extract_label(text, candidates, "sfew") == "unknown");
  }
  // 13 texts of about 10 MB, a few passes each: seconds even under a sanitizer; a quadratic scan would take
  // days.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(120));
}

TEST_CASE("text that is not UTF-8 and NUL bytes pass through unharmed") {
  const std::string odd("\xFF\xC3\0\x80", 4);
  CHECK(answer_text("<answer> " + odd + " </answer>") == odd);
  CHECK(find_reward_function("accuracy").judge({"<answer>" + odd + "</answer>", odd, ""}).value == 1.0);
  CHECK(find_reward_function("accuracy").judge({std::string("sad\0", 4), "sad", ""}).value == 0.0);
  CHECK(find_reward_function("format")
            .judge({"<think>" + odd + "</think><answer>" + odd + "</answer>", "", ""})
            .value == 1.0);
  CHECK(extract_label(odd + "sad" + odd, std::vector<std::string>{"sad"}, "") == "sad");
}

TEST_CASE("every cut of a well-formed answer is judged") {
  const std::string whole =
      "<think>\xE3\x80\x80 smile</think>\xC2\xA0<answer>\xE2\x80\x83happy\xC2\x85</answer>";
  for (std::size_t begin = 0; begin <= whole.size(); ++begin) {
    for (std::size_t length = 0; begin + length <= whole.size(); ++length) {
      const std::string cut =
          whole.substr(begin, length);  // A copy: a read past the end is seen by the sanitizer.
      const bool entire = length == whole.size();
      CHECK(find_reward_function("format").judge({cut, "happy", ""}).value == (entire ? 1.0 : 0.0));
      const std::string label = extract_label(cut, std::vector<std::string>{"happy"}, "ferplus");
      CHECK(label == (cut.find("happy") != std::string::npos ? "happy" : "unknown"));
    }
  }
}

}  // namespace ferro
