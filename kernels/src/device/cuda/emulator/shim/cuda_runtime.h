#pragma once
#include "emu.h"
#include "warp.h"
