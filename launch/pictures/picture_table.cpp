#include "data/image/image_processor.h"
#include "launch/commands.h"

// The one source of libferro_pictures.so: everything it offers is in data/image and data/faces.

extern "C" const ferro::PictureTable* ferro_picture_table() {
  static constexpr ferro::PictureTable kTable{.version = FERRO_VERSION,
                                              .make_loader = &ferro::make_image_loader,
                                              .write_faces = &ferro::write_face_dataset};
  return &kTable;
}
