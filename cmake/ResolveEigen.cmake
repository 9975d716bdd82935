# Finds Eigen (>= 3.4) from, in order: -DEigen3_DIR / -DEigen3_ROOT, an active conda environment, the `cmeel-eigen` wheel
# (a build requirement in pyproject.toml), the system. The lookup is not versioned on purpose: Eigen 5's package file
# refuses `find_package(Eigen3 3.4)`, and Debian's 3.4.0 refuses a range.
if(NOT Eigen3_DIR AND NOT Eigen3_ROOT)
  if(DEFINED ENV{CONDA_PREFIX} AND EXISTS "$ENV{CONDA_PREFIX}/share/eigen3/cmake")
    list(PREPEND CMAKE_PREFIX_PATH "$ENV{CONDA_PREFIX}")
  else()
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -c
              "import importlib.metadata as m; print(m.distribution('cmeel-eigen').locate_file('cmeel.prefix'))"
      OUTPUT_VARIABLE cmeel_prefix
      OUTPUT_STRIP_TRAILING_WHITESPACE
      ERROR_QUIET
      RESULT_VARIABLE cmeel_missing)
    if(cmeel_missing EQUAL 0)
      set(Eigen3_ROOT "${cmeel_prefix}")
    endif()
  endif()
endif()
find_package(Eigen3 CONFIG REQUIRED)
if(Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "LoopOS needs Eigen >= 3.4, found ${Eigen3_VERSION} in ${Eigen3_DIR}")
endif()
message(STATUS "Eigen ${Eigen3_VERSION}: ${Eigen3_DIR}")
