# LibTorch from the unpacked wheel (launch/setup.sh puts it into .deps/libtorch).
# Its include directory comes after the system's (-idirafter), because the wheel carries its own
# fmt and google/protobuf headers.
set(FERRO_LIBTORCH_DIR ${PROJECT_SOURCE_DIR}/.deps/libtorch CACHE PATH "Folder with LibTorch's include/ and lib/")
if(NOT EXISTS ${FERRO_LIBTORCH_DIR}/include/ATen/ATen.h)
  message(FATAL_ERROR "LibTorch is not in ${FERRO_LIBTORCH_DIR}: run `bash launch/setup.sh`, or set -DFERRO_LIBTORCH_DIR")
endif()

add_library(ferro_torch INTERFACE)
target_compile_options(ferro_torch INTERFACE "SHELL:-idirafter ${FERRO_LIBTORCH_DIR}/include"
                                             "SHELL:-idirafter ${FERRO_LIBTORCH_DIR}/include/torch/csrc/api/include")
set(FERRO_TORCH_LIBRARIES ${FERRO_LIBTORCH_DIR}/lib/libtorch_cpu.so ${FERRO_LIBTORCH_DIR}/lib/libc10.so)
# The wheel is built for CUDA: even libtorch_cpu.so needs the CUDA run time, found at run time by
# the path below (setup.sh links it there from the toolkit or from PyPI's run-time packages).
target_link_libraries(ferro_torch INTERFACE
  -Wl,--no-as-needed ${FERRO_TORCH_LIBRARIES} -Wl,--as-needed
  -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags
  -Wl,-rpath,${PROJECT_SOURCE_DIR}/.deps/cuda-runtime)
if(FERRO_CUDA)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  target_link_libraries(ferro_torch INTERFACE
    -Wl,--no-as-needed ${FERRO_LIBTORCH_DIR}/lib/libtorch_cuda.so ${FERRO_LIBTORCH_DIR}/lib/libc10_cuda.so -Wl,--as-needed
    CUDA::cudart)
  target_compile_definitions(ferro_torch INTERFACE FERRO_CUDA=1)
endif()

# One precompiled header (model/aten.h), compiled once, serves every target that includes LibTorch; OpenMP is LibTorch's
# own threading, so its flag belongs to all of them.
target_compile_options(ferro_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(ferro_torch INTERFACE gomp)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/torch_pch.cpp CONTENT "")
add_library(ferro_torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cpp)
target_include_directories(ferro_torch_pch PUBLIC ${PROJECT_SOURCE_DIR})
target_compile_options(ferro_torch_pch PRIVATE ${FERRO_WARNINGS})
target_link_libraries(ferro_torch_pch PRIVATE ferro_torch)
target_precompile_headers(ferro_torch_pch PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${PROJECT_SOURCE_DIR}/model/aten.h>")

function(ferro_use_torch_pch target)
  target_link_libraries(${target} PRIVATE ferro_torch)
  target_precompile_headers(${target} REUSE_FROM ferro_torch_pch)
endfunction()
