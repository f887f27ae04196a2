# `cmake --install build/release --prefix FOLDER`: a folder that may be moved, and that needs of the machine only Debian's
# run-time packages (launch/container/Containerfile names them). The programs find lib/ beside their bin/.
include(GNUInstallDirs)

set(FERRO_INSTALLED_PROGRAMS)
foreach(target ferro ferro-reward)
  if(TARGET ${target})
    list(APPEND FERRO_INSTALLED_PROGRAMS ${target})
  endif()
endforeach()
set(FERRO_INSTALLED_LIBRARIES)
foreach(target ferro_runtime ferro_pictures ferro_services)
  if(TARGET ${target})
    list(APPEND FERRO_INSTALLED_LIBRARIES ${target})
  endif()
endforeach()
install(TARGETS ${FERRO_INSTALLED_PROGRAMS} RUNTIME DESTINATION bin)
if(FERRO_INSTALLED_LIBRARIES)
  set_target_properties(${FERRO_INSTALLED_LIBRARIES} PROPERTIES INSTALL_RPATH "$ORIGIN")
  # Always lib/: the programs look for them there.
  install(TARGETS ${FERRO_INSTALLED_LIBRARIES} LIBRARY DESTINATION lib)
endif()

if(FERRO_TORCH)
  set(libraries libtorch_cpu.so libc10.so libgomp.so.1)
  if(FERRO_CUDA)
    list(APPEND libraries libtorch_cuda.so libc10_cuda.so)
  endif()
  list(TRANSFORM libraries PREPEND ${FERRO_LIBTORCH_DIR}/lib/)
  # Links to a toolkit become the files themselves.
  foreach(library libcudart.so.13 libcupti.so.13)
    list(APPEND libraries ${PROJECT_SOURCE_DIR}/.deps/cuda-runtime/${library})
  endforeach()
  install(CODE "
    foreach(library ${libraries})
      get_filename_component(name \"\${library}\" NAME)
      get_filename_component(file \"\${library}\" REALPATH)
      file(INSTALL \"\${file}\" DESTINATION \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib\" TYPE FILE RENAME \"\${name}\")
    endforeach()")
endif()

install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/ferro)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DATADIR}/ferro)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/ferro)
