#include "tests/lint/lint_rules.h"

#include <fstream>

#include <catch2/catch.hpp>

#include "tests/core/scratch_folder.h"
#include "tests/lint/source_text.h"

namespace ferro::lint {
namespace {

/// The rules that a file with this text breaks.
std::vector<std::string> rules(const std::string& file, const std::string& text) {
  std::vector<std::string> names;
  for (const Finding& finding : lint_file(file, text)) names.push_back(finding.rule);
  return names;
}

std::string including(const std::string& header) {
  return "#pragma once\n#include \"" + header + "\"\n";
}
std::string including_system(const std::string& header) {
  return "#pragma once\n#include <" + header + ">\n";
}

using Names = std::vector<std::string>;
const Names kNone;

}  // namespace

TEST_CASE("a layer may include those below it and no other") {
  CHECK(rules("core/a.h", including("core/b.h")) == kNone);
  CHECK(rules("core/a.h", including("data/b.h")) == Names{"layer"});
  CHECK(rules("data/image/a.h", including("core/b.h")) == kNone);
  CHECK(rules("data/a.h", including("model/b.h")) == Names{"layer"});
  CHECK(rules("reward/a.h", including("data/b.h")) == kNone);
  CHECK(rules("reward/a.h", including("rollout/b.h")) == Names{"layer"});
  CHECK(rules("reward/a.h", including("model/aten.h")) == Names{"layer"});
  CHECK(rules("model/a.h", including("reward/b.h")) == Names{"layer"});
  CHECK(rules("rollout/a.h", including("model/b.h")) == kNone);
  CHECK(rules("rollout/a.h", including("reward/b.h")) == Names{"layer"});
  CHECK(rules("trainer/a.h", including("reward/b.h")) == kNone);
  CHECK(rules("trainer/a.h", including("launch/b.h")) == Names{"layer"});
  CHECK(rules("launch/a.cpp", including("trainer/b.h")) == kNone);
  CHECK(rules("launch/a.cpp", including("tests/golden.h")) == Names{"include-path"});
  CHECK(rules("trainer/a.cpp", including("b.h")) == Names{"include-path"});
  CHECK(rules("core/a.h", "  #  include   \"data/b.h\"\n") == Names{"layer"});
}

TEST_CASE("heavy headers stay where they belong") {
  const std::string heavy = "heavy-header";
  CHECK(rules("model/a.cpp", including_system("torch/torch.h")) == Names{heavy});
  CHECK(rules("model/aten.h", including_system("torch/torch.h")) == Names{heavy});
  CHECK(rules("model/aten.h", including_system("ATen/ATen.h")) == kNone);
  CHECK(rules("trainer/a.cpp", including_system("ATen/ATen.h")) == Names{heavy});
  CHECK(rules("model/a.cpp", including_system("torch/csrc/autograd/variable.h")) == Names{heavy});
  CHECK(rules("tests/trainer/a_test.cpp", including_system("ATen/core/Tensor.h")) == Names{heavy});
  CHECK(rules("trainer/a.cpp", including_system("ATen/Parallel.h")) == kNone);
  CHECK(rules("model/dist/a.cpp", including_system("torch/csrc/distributed/c10d/TCPStore.hpp")) == kNone);
  CHECK(rules("rollout/a.cpp", including_system("torch/csrc/distributed/c10d/TCPStore.hpp")) == Names{heavy});
  CHECK(rules("data/image/a.cpp", including_system("opencv2/core.hpp")) == kNone);
  CHECK(rules("data/a.cpp", including_system("opencv2/core.hpp")) == Names{heavy});
  CHECK(rules("launch/a.cpp", including_system("opencv2/core.hpp")) == Names{heavy});
  CHECK(rules("reward/a_client.cpp", including("ferro/v1/reward.pb.h")) == kNone);
  CHECK(rules("reward/a.cpp", including("ferro/v1/reward.pb.h")) == Names{heavy});
  CHECK(rules("model/dist/a.cpp", including_system("nccl.h")) == kNone);
  CHECK(rules("trainer/a.cpp", including_system("nccl.h")) == Names{heavy});
  CHECK(rules("rollout/a.cpp", including_system("gloo/context.h")) == Names{heavy});
}

TEST_CASE("files have at most 600 lines, kernels 800") {
  const auto lines = [](int count) { return std::string(static_cast<std::size_t>(count), '\n'); };
  CHECK(rules("core/a.cpp", lines(600)) == kNone);
  CHECK(rules("core/a.cpp", lines(601)) == Names{"file-length"});
  CHECK(rules("model/kernels/a.cpp", lines(800)) == kNone);
  CHECK(rules("model/kernels/a.cpp", lines(801)) == Names{"file-length"});
  CHECK(rules("docs/a.md", lines(900)) == kNone);
}

TEST_CASE("functions have at most 100 lines, wherever they stand") {
  const auto body = [](int lines) {
    return "{" + std::string(static_cast<std::size_t>(lines - 1), '\n') + "}\n";
  };
  const auto measured = [&](const std::string& before, const std::string& after) {
    INFO(before);
    CHECK(rules("core/a.cpp", before + body(100) + after) == kNone);
    CHECK(rules("core/a.cpp", before + body(101) + after) == Names{"function-length"});
  };
  measured("int f() ", "");
  measured("namespace a {\nnamespace {\nint f(int x) const noexcept ", "}\n}\n");
  measured("class A {\n public:\n  A() : a_{1}, b_{2} ", "};\n");
  measured("class A {\n int x = 3;\n void g() {}\n int y{3};\n void f() override ", "};\n");
  measured("template <class T, class U = B<T>>\nauto f(T t) -> decltype(t) ", "");
  measured("struct A {\n  struct B {};\n  B f() ", "};\n");
  measured("struct B f() ", "");
  measured("TEST_CASE(\"name {\") ", "");
  measured("const auto f = [](int x) ", ";\n");
  measured("int g() { return '{' + '\\'' + 1'000; }\n// {\n/* { */\n#define OPEN {\nint f() ", "");
  measured("const char* text = R\"x({ \" )x\";\nint f() ", "");
}

TEST_CASE("long tables, classes and namespaces are no functions") {
  const std::string lines(200, '\n');
  CHECK(rules("core/a.cpp", "namespace a {\n" + lines + "}\n") == kNone);
  CHECK(rules("core/a.h", "class A : public B {\n public:\n  struct C {" + lines + "};\n};\n") == kNone);
  CHECK(rules("core/a.h", "class A {\n  void f() {}\n  struct C {" + lines + "};\n};\n") == kNone);
  CHECK(rules("core/a.h", "enum class A : int {" + lines + "};\n") == kNone);
  CHECK(rules("core/a.cpp", "const int kTable[] = {" + lines + "};\n") == kNone);
}

TEST_CASE("a file whose braces do not match is reported, not skipped") {
  CHECK(rules("core/a.cpp", "int f() {\n") == Names{"braces"});
  CHECK(rules("core/a.cpp", "int f() {}}\n") == Names{"braces"});
}

TEST_CASE("a name that CMake would split is found, also on a line of its own") {
  const std::string head = std::string("TEST_") + "CASE(";
  const auto rules = [](const std::string& text) { return lint_file("tests/a_test.cpp", text); };
  CHECK(rules(head + "\"one; two\") {\n}\n").at(0).rule == "test-name");
  CHECK(rules(head + "\n    \"one \"\n    \"and; two\") {\n}\n").at(0).line == 3);
  CHECK(rules(head + "\"one, \\\"two\\\"\") {\n  f(\"a;b\");\n}\n").empty());
}

TEST_CASE("machine paths, package hosts and marks of unfinished work are found in any text") {
  const std::string slash = "/";
  for (const char* file :
       {"core/a.cpp", "docs/a.md", "launch/a.sh", "configs/a.yaml", "core/CMakeLists.txt"}) {
    CHECK(rules(file, "x = \"" + slash + "work" + "/main\"\n") == Names{"machine-path"});
    CHECK(rules(file, slash + "root" + "/x\n") == Names{"machine-path"});
    CHECK(rules(file, std::string("https://py") + "pi.org/simple\n") == Names{"machine-path"});
    CHECK(rules(file, std::string("// TO") + "DO later\n") == Names{"word"});
    CHECK(rules(file, std::string("is not imple") + "mented\n") == Names{"word"});
    CHECK(rules(file, std::string("Good enough for n") + "ow.\n") == Names{"word"});
  }
  const std::string inside = slash + "work" + slash + "x", home = slash + "root" + slash + "b";
  CHECK(rules("docs/a.md",
              "docs" + inside + ", a" + home + ", for nowhere, .." + inside + ", mkdtemp XXXXXX\n") == kNone);
}

TEST_CASE(
    "a violation planted anywhere in a tree is found, build folders and hidden ones are not looked at") {
  const testing::ScratchFolder root;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  };
  write("core/a.h", including("core/b.h"));
  write("build/release/a.h", including_system("torch/torch.h"));
  write(".deps/libtorch/a.h", including_system("torch/torch.h"));
  write("docs/picture.png", std::string("TO") + "DO");
  CHECK(lint_tree(root.path()).findings.empty());
  CHECK(lint_tree(root.path()).files == 1);

  write("data/image/deep/a.cpp", including("trainer/train.h"));
  const LintReport report = lint_tree(root.path());
  REQUIRE(report.findings.size() == 1);
  CHECK(report.findings[0].file == "data/image/deep/a.cpp");
  CHECK(report.findings[0].line == 2);
  CHECK(report.findings[0].rule == "layer");
}

}  // namespace ferro::lint
