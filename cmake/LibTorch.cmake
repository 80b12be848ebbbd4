# LibTorch from its wheel, as one imported target. `./run setup` puts it there.
# Only tests link it: the slow, independent reference.
#
# Not find_package(Torch): the wheel's Caffe2Config.cmake defines a dummy
# protobuf::libprotobuf, and the link of everything with gRPC breaks.

# The one place that pins it; tools/setup.sh reads this line.
set(OUNCE_LIBTORCH_VERSION 2.13.0)

set(OUNCE_LIBTORCH_ROOT "" CACHE PATH "The wheel's torch/ folder (include/, lib/)")
if(NOT EXISTS ${OUNCE_LIBTORCH_ROOT}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "No LibTorch in '${OUNCE_LIBTORCH_ROOT}': run ./run setup, "
                      "or give -DOUNCE_LIBTORCH_ROOT=<the wheel's torch folder>")
endif()

# The wheel's include/ also holds google/protobuf 3.13, which would shadow the
# system's. So the compiler sees only these three folders of it.
set(view ${CMAKE_BINARY_DIR}/libtorch_include)
file(MAKE_DIRECTORY ${view})
foreach(part ATen c10 torch)
  file(CREATE_LINK ${OUNCE_LIBTORCH_ROOT}/include/${part} ${view}/${part} SYMBOLIC)
endforeach()

add_library(LibTorch INTERFACE IMPORTED)
target_include_directories(LibTorch SYSTEM INTERFACE ${view})
target_link_libraries(LibTorch INTERFACE
  -Wl,--no-as-needed ${OUNCE_LIBTORCH_ROOT}/lib/libtorch_cpu.so
  ${OUNCE_LIBTORCH_ROOT}/lib/libtorch.so -Wl,--as-needed
  ${OUNCE_LIBTORCH_ROOT}/lib/libc10.so)
