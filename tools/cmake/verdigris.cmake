# Compiler settings shared by every target, and the one way a folder becomes a library.

set(VG_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports these inside its own standard library at -O2.
  list(APPEND VG_WARNINGS -Wno-restrict -Wno-error=array-bounds -Wno-error=stringop-overflow
       -Wno-error=maybe-uninitialized)
endif()

add_library(vg_options INTERFACE)
target_compile_options(vg_options INTERFACE ${VG_WARNINGS} -fno-strict-aliasing)
target_include_directories(vg_options INTERFACE ${CMAKE_SOURCE_DIR})
if(VG_SANITIZE_ADDRESS)
  target_compile_options(vg_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(vg_options INTERFACE -fsanitize=address,undefined)
endif()
if(VG_SANITIZE_THREAD)
  target_compile_options(vg_options INTERFACE -fsanitize=thread)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # ThreadSanitizer does not model fences. Ours stand between accesses that are atomic themselves (VMBus rings), or do a
    # guest's MFENCE: it can miss an order that they make, and then reports too much, never too little.
    target_compile_options(vg_options INTERFACE -Wno-tsan)
  endif()
  target_link_options(vg_options INTERFACE -fsanitize=thread)
endif()
if(VG_FUZZ)
  target_compile_options(vg_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(VG_TIDY)
  set(CMAKE_CXX_CLANG_TIDY clang-tidy)
endif()

# vg_library(NAME [DEPENDS lib...] [DIRS subfolder...]): every .cpp of this folder and of the named
# subfolders becomes the static library vg_NAME, linked exactly to the named libraries.
function(vg_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;DIRS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cpp *.h)
  foreach(dir ${ARG_DIRS})
    file(GLOB more CONFIGURE_DEPENDS ${dir}/*.cpp ${dir}/*.h)
    list(APPEND sources ${more})
  endforeach()
  if(NOT sources)  # a folder without code yet
    add_library(vg_${name} INTERFACE)
    target_link_libraries(vg_${name} INTERFACE vg_options ${ARG_DEPENDS})
    return()
  endif()
  add_library(vg_${name} STATIC ${sources})
  set_target_properties(vg_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(vg_${name} PUBLIC vg_options ${ARG_DEPENDS})
endfunction()
