# ounce_library(), ounce_executable(), ounce_test() and ounce_fuzzer(): the only
# ways a target is made.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(ounce_options INTERFACE)
target_include_directories(ounce_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(ounce_options INTERFACE -Wall -Wextra)
if(OUNCE_WERROR)
  target_compile_options(ounce_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(ounce_options INTERFACE -Wthread-safety)
endif()
if(OUNCE_SANITIZER STREQUAL "address")
  set(sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
elseif(OUNCE_SANITIZER STREQUAL "thread")
  set(sanitizer_flags -fsanitize=thread -fno-omit-frame-pointer)
endif()
if(sanitizer_flags)
  target_compile_options(ounce_options INTERFACE ${sanitizer_flags})
  target_link_options(ounce_options INTERFACE ${sanitizer_flags})
endif()

if(OUNCE_FUZZ)
  target_compile_options(ounce_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ounce_listed_sources(OUT LIST.def MACRO FOLDER): the sources that lines
# MACRO(function, name) of a list stand for, FOLDER + name + ".cc".
function(ounce_listed_sources out list macro folder)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
               ${CMAKE_CURRENT_SOURCE_DIR}/${list})
  file(STRINGS ${list} lines REGEX "^${macro}\\(")
  foreach(line ${lines})
    string(REGEX REPLACE "^${macro}\\([^,]+, *([a-z0-9_]+)\\)$" "${folder}\\1.cc"
           source ${line})
    list(APPEND sources ${source})
  endforeach()
  list(REMOVE_DUPLICATES sources)
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

# ounce_library(NAME SOURCES a.cc ... [PUBLIC dep ...] [PRIVATE dep ...])
function(ounce_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC $<BUILD_INTERFACE:ounce_options> ${arg_PUBLIC}
    PRIVATE ${arg_PRIVATE})
endfunction()

# ounce_executable(NAME SOURCES a.cc ... DEPS dep ...): left in the build
# folder's root, where people look for it.
function(ounce_executable name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ounce_options ${arg_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

# ounce_timeout(OUT SECONDS): a test's TIMEOUT. What a sanitizer checks takes three
# times as long.
function(ounce_timeout out seconds)
  if(OUNCE_SANITIZER)
    math(EXPR seconds "3 * ${seconds}")
  endif()
  set(${out} ${seconds} PARENT_SCOPE)
endfunction()

# How tests are compiled: their code runs for milliseconds and takes longest to
# optimize.
add_library(ounce_test_options INTERFACE)
target_compile_options(ounce_test_options INTERFACE $<$<NOT:$<CONFIG:Debug>>:-O1>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # What ccache needs; and so optimized, g++ 12 sees strings leave their own buffers.
  target_compile_options(ounce_test_options INTERFACE -fpch-preprocess -Wno-array-bounds)
endif()

# ounce_precompiled_headers(NAME HEADERS <a.h> ... DEPS dep ...): for tests to share.
function(ounce_precompiled_headers name)
  cmake_parse_arguments(arg "" "" "HEADERS;DEPS" ${ARGN})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "")
  add_library(${name} OBJECT ${source})
  target_link_libraries(${name} PRIVATE ounce_options ounce_test_options ${arg_DEPS})
  target_precompile_headers(${name} PRIVATE ${arg_HEADERS})
  # For executables, which is what tests are.
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIE)
endfunction()

# ounce_test(NAME SOURCES a_test.cc ... DEPS dep ... [LABELS l ...] [TIMEOUT s]
#            [PROCESSORS n] [EVERY_ISA]): one binary per file, so that failures are
# named; run from the source tree's root. EVERY_ISA: again on each instruction set
# below this machine's best, as NAME_avx2 and so on.
function(ounce_test name)
  cmake_parse_arguments(arg "EVERY_ISA" "TIMEOUT;PROCESSORS" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ounce_options ounce_test_options ${arg_DEPS} GTest::gmock_main)
  # Whatever is compiled with -pthread, over gRPC or not, has the headers that are so
  # too: a library that does that belongs in this list.
  if(arg_DEPS MATCHES "ounce_(service|client|commands|draw|proto)|gRPC")
    target_precompile_headers(${name} REUSE_FROM ounce_rpc_test_headers)
  else()
    target_precompile_headers(${name} REUSE_FROM ounce_test_headers)
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(tests ${name})
  if(arg_EVERY_ISA)
    foreach(isa portable avx2 avx512vnni avx512)
      add_test(NAME ${name}_${isa} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
      set_property(TEST ${name}_${isa} APPEND PROPERTY ENVIRONMENT OUNCE_MAX_ISA=${isa})
      list(APPEND tests ${name}_${isa})
    endforeach()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  ounce_timeout(timeout ${arg_TIMEOUT})
  set_tests_properties(${tests} PROPERTIES TIMEOUT ${timeout})
  if(OUNCE_SANITIZER STREQUAL "address")
    set_property(TEST ${tests} APPEND PROPERTY ENVIRONMENT
      "LSAN_OPTIONS=print_suppressions=0:suppressions=${PROJECT_SOURCE_DIR}/tests/lsan.supp")
  endif()
  if(arg_LABELS)
    set_tests_properties(${tests} PROPERTIES LABELS "${arg_LABELS}")
  endif()
  if(arg_PROCESSORS)
    set_tests_properties(${tests} PROPERTIES PROCESSORS ${arg_PROCESSORS})
  endif()
endfunction()

# ounce_python_test(NAME SCRIPT): in the virtual environment that ./run setup makes,
# from the source tree's root; not run where there is none. OUNCE_SERVER_BINARY and
# OUNCE_CLI_BINARY name the programs.
function(ounce_python_test name script)
  add_test(NAME ${name} COMMAND ${OUNCE_TESTS_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${script}
           WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(programs OUNCE_SERVER_BINARY=$<TARGET_FILE:ounce-server> OUNCE_CLI_BINARY=$<TARGET_FILE:ounce>)
  ounce_timeout(timeout 300)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} ENVIRONMENT "${programs}")
  if(NOT EXISTS ${OUNCE_TESTS_PYTHON})
    set_tests_properties(${name} PROPERTIES DISABLED TRUE)
  endif()
endfunction()

# ounce_fuzzer(NAME SOURCES a_fuzz.cc DEPS dep ...): built by ounce_fuzzers.
function(ounce_fuzzer name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ounce_options ${arg_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(ounce_fuzzers ${name})
endfunction()
