#pragma once

#include "data/faces/face_painter.h"

namespace ferro {

/// Parts of a head, drawn back to front. Each reads the action units that move it.
void draw_hair_behind(FacePainter& painter, const FaceIdentity& identity);
void draw_head(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units);
void draw_forehead(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units);
void draw_eye(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units,
              const FaceView& view, bool right_side);
void draw_brow(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units, bool right_side);
void draw_nose(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units);
void draw_beard(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units);
void draw_mouth(FacePainter& painter, const FaceIdentity& identity, const ActionUnits& units);
void draw_hair_in_front(FacePainter& painter, const FaceIdentity& identity);
void draw_glasses(FacePainter& painter, const FaceIdentity& identity);

}  // namespace ferro
