# The rules every target of ferro follows.
include(CheckLanguage)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# -fPIC for programs too (CMake would give them -fPIE): one precompiled header then serves all targets.
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fPIC>)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_PCH_INSTANTIATE_TEMPLATES OFF)
# Messages name the place in the source, never the folder it was built in.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=>)

find_program(FERRO_CCACHE ccache)
if(FERRO_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${FERRO_CCACHE})
  add_compile_options(-fpch-preprocess)
endif()

# Our own warnings are errors; -ffp-contract=off keeps a sum the same sum on every
# processor: where a fused multiply-add is wanted, the kernel says so.
# -Wno-restrict: g++ 12 sees overlaps in `"text" + std::string` that are not there (GCC bug 105651).
set(FERRO_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Werror -Wno-restrict -ffp-contract=off)

# With CMAKE_UNITY_BUILD (the presets that build everything have it) eight source files of a target are compiled as one, which
# takes less than half the time. A source file stays a whole of its own all the same: the presets dev and cuda compile each apart.
if(CMAKE_UNITY_BUILD)
  # A class defined in a .cpp may have members of types from its anonymous namespace; g++ calls that a mistake in what it takes
  # for a header.
  list(APPEND FERRO_WARNINGS -Wno-subobject-linkage)
endif()

# ferro_library(<name> SOURCES ... DEPS ... [PRIVATE_DEPS ...]): a static library of one folder.
# What a folder may include is held by tests/lint/check_layers.cmake.
function(ferro_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(ferro_${name} STATIC ${ARG_SOURCES})
  target_include_directories(ferro_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(ferro_${name} PRIVATE ${FERRO_WARNINGS})
  target_link_libraries(ferro_${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# ferro_test(<target> LABEL unit|integration|golden|... SOURCES ... DEPS ...): one Catch2 program,
# one CTest test per test case. A test case that prints FERRO_SKIPPED is counted as skipped.
# Names of test cases hold no semicolon: CMake would take it for two names, which then fail as unknown.
function(ferro_test name)
  cmake_parse_arguments(ARG "TORCH" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE ${FERRO_WARNINGS})
  target_compile_definitions(${name} PRIVATE FERRO_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                             FERRO_BINARY_DIR="${CMAKE_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ferro_test_main ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(ARG_TORCH)
    ferro_use_torch_pch(${name})
  endif()
  catch_discover_tests(${name}
    TEST_PREFIX "${name}: "
    EXTRA_ARGS --warn NoTests
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    PROPERTIES LABELS "${ARG_LABEL}" ENVIRONMENT "OMP_WAIT_POLICY=passive" TIMEOUT ${ARG_TIMEOUT} SKIP_REGULAR_EXPRESSION "FERRO_SKIPPED")
endfunction()
