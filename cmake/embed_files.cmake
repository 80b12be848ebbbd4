# ounce_embed_files(OUT.cc HEADER NAMESPACE NAME=FILE...): makes a source that
# defines each NAME, which HEADER declares as a std::string_view, as its file's
# content. It is made anew when a file changes.
#
# The build calls this very file to make it (cmake -P).
if(CMAKE_SCRIPT_MODE_FILE)
  set(text "// Made from files by cmake/embed_files.cmake.\n#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n")
  foreach(pair IN LISTS FILES)
    string(REGEX MATCH "^([^=]+)=(.+)$" pair ${pair})
    set(name ${CMAKE_MATCH_1})
    set(file ${CMAKE_MATCH_2})
    file(SIZE ${file} size)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "(..)" "\\\\x\\1" bytes "${bytes}")
    # In lines of 32 bytes, which people and compilers mind less.
    string(REPEAT "\\\\x.." 32 line)
    string(REGEX REPLACE "(${line})" "\\1\"\n\"" bytes "${bytes}")
    string(APPEND text "\nconst std::string_view ${name}(\n\"${bytes}\", ${size});\n")
  endforeach()
  file(WRITE ${OUT} "${text}\n}  // namespace ${NAMESPACE}\n")
  return()
endif()

function(ounce_embed_files out header namespace)
  set(pairs)
  set(files)
  foreach(pair ${ARGN})
    string(REPLACE "=" "=${CMAKE_CURRENT_SOURCE_DIR}/" pair ${pair})
    list(APPEND pairs ${pair})
    string(REGEX REPLACE "^[^=]+=" "" file ${pair})
    list(APPEND files ${file})
  endforeach()
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -D OUT=${out} -D HEADER=${header} -D NAMESPACE=${namespace}
            -D "FILES=${pairs}" -P ${PROJECT_SOURCE_DIR}/cmake/embed_files.cmake
    DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/embed_files.cmake
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR} VERBATIM)
endfunction()
