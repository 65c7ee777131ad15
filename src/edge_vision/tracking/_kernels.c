/* The steps of a tracker's update that work on every object, compiled: see kernels.py for what each does, and for the
 * NumPy of the same. Arrays come as contiguous buffers; their number types are those of `record` and `motion`, and
 * what does not fit is a ValueError, never a wrong read. The arithmetic is NumPy's, step by step (single precision for
 * overlaps, double for motion), so both give the same tracks: keep -ffp-contract=off.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TENTATIVE, CONFIRMED, LOST };
enum { X, Y, W, H, VELOCITY, VAR_POSITION = 8, COVARIANCE, VAR_VELOCITY, ONE, COLUMNS };

#define MIN_SIZE 1.0
#define SURE 0.1
#define UNSURE 0.3
#define SHAPE_DEVIATIONS 2.0
#define NS_PER_S 1e9

typedef struct { /* record.RECORD */
    int64_t id, born, seen, class_id;
    int32_t hits, stalled;
    float score, vote, evidence, box[4], past[6];
    uint8_t state;
} Record;

#define MOST 12
typedef struct {
    Py_buffer of[MOST];
    int count;
} Buffers;

static void release(Buffers *b) {
    while (b->count) PyBuffer_Release(&b->of[--b->count]);
}

/* The memory of `array`, which must have `count` (any where negative) items of `size` bytes; NULL with an error set. */
static void *memory(Buffers *b, PyObject *array, Py_ssize_t size, Py_ssize_t count, int writable) {
    Py_buffer *view = &b->of[b->count];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    b->count++;
    if (view->itemsize != size || (count >= 0 && view->len != size * count)) {
        PyErr_Format(PyExc_ValueError, "array %d: %zd bytes of %zd each, expected %zd items of %zd", b->count,
                     view->len, view->itemsize, count, size);
        return NULL;
    }
    return view->buf;
}

/* How many items the array has that was taken last. */
static Py_ssize_t items(const Buffers *b) { return b->of[b->count - 1].len / b->of[b->count - 1].itemsize; }

#define TAKE(name, type, array, count, writable)                                      \
    type *name = memory(&b, array, sizeof(type), count, writable);                    \
    if (!name) {                                                                      \
        release(&b);                                                                  \
        return NULL;                                                                  \
    }

/* m tracks: record, and s, their state. */
#define TAKE_TRACKS(writable)                          \
    TAKE(record, Record, record_, -1, writable)        \
    const Py_ssize_t m = items(&b);                    \
    TAKE(s, double, state_, COLUMNS *m, writable)

/* n detections: scores, boxes and classes. */
#define TAKE_DETECTIONS                                \
    TAKE(scores, float, scores_, -1, 0)                \
    const Py_ssize_t n = items(&b);                    \
    TAKE(boxes, float, boxes_, 4 * n, 0)               \
    TAKE(classes, int64_t, classes_, n, 0)

/* A shrinking box that nobody sees must not turn inside out: motion.MIN_SIZE. */
static void keep_upright(double *s, Py_ssize_t m, Py_ssize_t i) {
    if (s[W * m + i] < MIN_SIZE) s[W * m + i] = MIN_SIZE;
    if (s[H * m + i] < MIN_SIZE) s[H * m + i] = MIN_SIZE;
}

static int inside(const Py_ssize_t *indices, Py_ssize_t count, Py_ssize_t limit) {
    for (Py_ssize_t i = 0; i < count; i++)
        if (indices[i] < 0 || indices[i] >= limit) return 0;
    return 1;
}

static PyObject *refuse(Buffers *b, const char *what) {
    release(b);
    PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

static PyObject *sound(PyObject *self, PyObject *args) {
    PyObject *boxes_, *scores_, *classes_;
    double low, most;
    if (!PyArg_ParseTuple(args, "OOOdd", &boxes_, &scores_, &classes_, &low, &most)) return NULL;
    Buffers b = {.count = 0};
    TAKE_DETECTIONS;
    int good = 1, several = 0;
    for (Py_ssize_t j = 0; j < n; j++) {
        const float *p = boxes + 4 * j;
        /* NaN makes every comparison false. */
        good &= p[0] >= -most && p[1] >= -most && p[2] <= most && p[3] <= most && p[2] > p[0] && p[3] > p[1] &&
                scores[j] >= (float)low && scores[j] < (float)INFINITY;
        several |= classes[j] != classes[0];
    }
    release(&b);
    return PyLong_FromLong(good + 2 * several);
}

static PyObject *predict(PyObject *self, PyObject *args) {
    PyObject *state_, *step_, *out_;
    if (!PyArg_ParseTuple(args, "OOO", &state_, &step_, &out_)) return NULL;
    Buffers b = {.count = 0};
    TAKE(s, double, state_, -1, 0);
    const Py_ssize_t n = items(&b) / COLUMNS;
    TAKE(step, double, step_, COLUMNS * COLUMNS, 0);
    TAKE(o, double, out_, COLUMNS * n, 1);
#define T(from, to) step[COLUMNS * (from) + (to)]
    const double far = T(VELOCITY, X), left = T(VELOCITY, VELOCITY);
    for (int k = 0; k < 4; k++)
        for (Py_ssize_t i = 0; i < n; i++) {
            o[k * n + i] = s[k * n + i] + far * s[(VELOCITY + k) * n + i];
            o[(VELOCITY + k) * n + i] = left * s[(VELOCITY + k) * n + i];
        }
    for (Py_ssize_t i = 0; i < n; i++) {
        keep_upright(o, n, i);
        const double c = s[COVARIANCE * n + i], v = s[VAR_VELOCITY * n + i];
        o[VAR_POSITION * n + i] = s[VAR_POSITION * n + i] + T(COVARIANCE, VAR_POSITION) * c +
                                  T(VAR_VELOCITY, VAR_POSITION) * v + T(ONE, VAR_POSITION);
        o[COVARIANCE * n + i] =
            T(COVARIANCE, COVARIANCE) * c + T(VAR_VELOCITY, COVARIANCE) * v + T(ONE, COVARIANCE);
        o[VAR_VELOCITY * n + i] = T(VAR_VELOCITY, VAR_VELOCITY) * v + T(ONE, VAR_VELOCITY);
        o[ONE * n + i] = 1.0;
    }
#undef T
    release(&b);
    Py_RETURN_NONE;
}

/* The best one-to-one choice: of `count` edges (row, column, gain > 0), rows ascending, the set whose gains sum up to
 * most. Shortest augmenting paths with potentials (Crouse, On implementing 2D rectangular assignment algorithms, IEEE
 * Trans. AES 2016) over the edges alone; a row may also stay alone, for nothing. Leaves the chosen edges in front,
 * ascending, and returns how many they are; -1 without memory. */
static Py_ssize_t resolve(Py_ssize_t m, Py_ssize_t n, Py_ssize_t count, Py_ssize_t *rows, Py_ssize_t *columns,
                          const float *worth, float gate) {
    enum { NOBODY = -1 };
    double *numbers = malloc(sizeof(double) * (m + 2 * n));
    Py_ssize_t *places = malloc(sizeof(Py_ssize_t) * (3 * m + 1 + 4 * n));
    char *done = calloc(n, 1);
    if (!numbers || !places || !done) {
        free(numbers), free(places), free(done);
        return -1;
    }
    double *u = numbers, *v = u + m, *distance = v + n; /* potentials; length of the shortest path to a column */
    Py_ssize_t *first = places, *column_of = first + m + 1, *tree = column_of + m;
    Py_ssize_t *row_of = tree + m, *via = row_of + n, *touched = via + n, *closed = touched + n;
    for (Py_ssize_t i = 0; i < m; i++) u[i] = 0.0, column_of[i] = NOBODY;
    for (Py_ssize_t j = 0; j < n; j++) v[j] = 0.0, distance[j] = INFINITY, row_of[j] = NOBODY;
    float best = gate;
    for (Py_ssize_t e = 0, i = 0; i <= m; i++) {
        while (e < count && rows[e] < i) e++;
        first[i] = e;
    }
    for (Py_ssize_t e = 0; e < count; e++) best = worth[e] > best ? worth[e] : best;
    const double alone = (double)best - gate; /* what staying alone costs, beside the best pair, which costs nothing */
    for (Py_ssize_t start = 0; start < m; start++) {
        if (first[start] == first[start + 1]) continue;
        Py_ssize_t near = 0, shut = 0, rows_in = 0, i = start, sink = NOBODY, quits = NOBODY;
        double length = 0.0, giving_up = INFINITY;
        while (1) {
            tree[rows_in++] = i;
            if (length + alone - u[i] < giving_up) giving_up = length + alone - u[i], quits = i;
            for (Py_ssize_t e = first[i]; e < first[i + 1]; e++) {
                const Py_ssize_t j = columns[e];
                if (done[j]) continue;
                const double reduced = length + ((double)best - worth[e]) - u[i] - v[j];
                if (reduced < distance[j]) {
                    if (distance[j] == INFINITY) touched[near++] = j;
                    distance[j] = reduced, via[j] = i;
                }
            }
            Py_ssize_t next = NOBODY;
            for (Py_ssize_t k = 0; k < near; k++) {
                const Py_ssize_t j = touched[k];
                if (!done[j] && (next == NOBODY || distance[j] < distance[next])) next = j;
            }
            if (next == NOBODY || giving_up <= distance[next]) {
                length = giving_up;
                break;
            }
            length = distance[next];
            if (row_of[next] == NOBODY) {
                sink = next;
                break;
            }
            done[next] = 1, closed[shut++] = next;
            i = row_of[next];
        }
        u[start] += length;
        for (Py_ssize_t k = 1; k < rows_in; k++) u[tree[k]] += length - distance[column_of[tree[k]]];
        for (Py_ssize_t k = 0; k < shut; k++) v[closed[k]] -= length - distance[closed[k]];
        Py_ssize_t freed = sink;
        if (sink == NOBODY) { /* the row that gives up hands its column on */
            freed = column_of[quits];
            column_of[quits] = NOBODY;
        }
        for (i = sink == NOBODY ? quits : NOBODY; i != start;) {
            const Py_ssize_t j = freed;
            i = via[j];
            row_of[j] = i;
            freed = column_of[i];
            column_of[i] = j;
        }
        for (Py_ssize_t k = 0; k < near; k++) distance[touched[k]] = INFINITY, done[touched[k]] = 0;
    }
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < m; i++)
        if (column_of[i] != NOBODY) rows[kept] = i, columns[kept++] = column_of[i];
    free(numbers), free(places), free(done);
    return kept;
}

#define BLOCK 16 /* detections looked at together */
#define SORTED 64 /* detections from which on it pays to look only at those near in x */

typedef struct {
    float left;
    Py_ssize_t column;
} Edge;

static int by_left(const void *a, const void *b) {
    const float first = ((const Edge *)a)->left, second = ((const Edge *)b)->left;
    return (first > second) - (first < second);
}

static PyObject *pairs(PyObject *self, PyObject *args) {
    PyObject *record_, *state_, *boxes_, *scores_, *classes_, *rows_, *columns_;
    double border, gate_, low, tentative, slack, shape, other_class, measurement;
    int fuse;
    if (!PyArg_ParseTuple(args, "OOOOOOOddddddddi", &record_, &state_, &boxes_, &scores_, &classes_, &rows_,
                          &columns_, &border, &gate_, &low, &tentative, &slack, &shape, &other_class, &measurement,
                          &fuse))
        return NULL;
    Buffers b = {.count = 0};
    TAKE_TRACKS(0);
    TAKE_DETECTIONS;
    TAKE(rows, Py_ssize_t, rows_, -1, 1);
    const Py_ssize_t room = items(&b);
    TAKE(columns, Py_ssize_t, columns_, room, 1);
    const Py_ssize_t padded = (n + BLOCK - 1) / BLOCK * BLOCK;
    float *sides = malloc(sizeof(float) * (4 * padded + room)), *worth = sides + 4 * padded;
    char *taken = calloc(n ? n : 1, 1); /* whether a detection has a pair yet */
    Edge *order = malloc(sizeof(Edge) * (n ? n : 1));
    if (!sides || !taken || !order) {
        free(sides), free(taken), free(order);
        release(&b);
        return PyErr_NoMemory();
    }
    /* Side by side in memory, so that a block is compared at once; what pads the last one is nowhere. */
    float *left = sides, *top = left + padded, *right = top + padded, *bottom = right + padded;
    for (Py_ssize_t j = 0; j < n; j++) order[j].left = boxes[4 * j], order[j].column = j;
    const int sorted = n >= SORTED;
    if (sorted) qsort(order, n, sizeof(Edge), by_left);
    float widest = 0;
    for (Py_ssize_t k = 0; k < padded; k++) {
        const float *p = k < n ? boxes + 4 * order[k].column : NULL;
        left[k] = p ? p[0] : INFINITY, top[k] = p ? p[1] : INFINITY;
        right[k] = p ? p[2] : -INFINITY, bottom[k] = p ? p[3] : -INFINITY;
        if (p && p[2] - p[0] > widest) widest = p[2] - p[0];
    }
    const float gate = (float)gate_;
    Py_ssize_t found = 0;
    int disputed = 0;
    for (Py_ssize_t i = 0; i < m && found >= 0; i++) {
        const double w = s[W * m + i], h = s[H * m + i], variance = s[VAR_POSITION * m + i];
        const float x1 = (float)(s[X * m + i] - 0.5 * w), y1 = (float)(s[Y * m + i] - 0.5 * h);
        const float x2 = (float)(s[X * m + i] + 0.5 * w), y2 = (float)(s[Y * m + i] + 0.5 * h);
        const float area = (float)(w * h);
        const int life = record[i].state;
        double give = 0.0;
        if (slack && life == CONFIRMED) {
            const double deviation = sqrt(variance);
            if (deviation > SURE) give = slack * ((deviation < UNSURE ? deviation : UNSURE) - SURE);
        }
        /* What a pair counts by the state of its track: weak detections continue confirmed tracks only. */
        const float strong_factor = (float)(life == TENTATIVE ? tentative : 1.0);
        const float weak_factor = life == CONFIRMED ? (float)(1.0 + give) : 0.0f;
        const Py_ssize_t before = found;
        Py_ssize_t low_end = 0, high_end = sorted ? n : 0; /* the first that may reach the track from the left */
        while (low_end < high_end) {
            const Py_ssize_t middle = (low_end + high_end) / 2;
            if (left[middle] < x1 - widest - 1.0f) /* a pixel more than exact, for rounding */
                low_end = middle + 1;
            else
                high_end = middle;
        }
        for (Py_ssize_t block = low_end / BLOCK * BLOCK; block < padded && found >= 0; block += BLOCK) {
            if (sorted && left[block] >= x2) break;
            int meets[BLOCK], any = 0;
            for (int k = 0; k < BLOCK; k++) {
                const Py_ssize_t j = block + k;
                meets[k] = (left[j] < x2) & (right[j] > x1) & (top[j] < y2) & (bottom[j] > y1);
            }
            for (int k = 0; k < BLOCK; k++) any |= meets[k];
            if (!any) continue;
            for (int k = 0; k < BLOCK; k++) {
                if (!meets[k]) continue;
                const Py_ssize_t at = block + k, j = order[at].column;
                const float width = (x2 < right[at] ? x2 : right[at]) - (x1 > left[at] ? x1 : left[at]);
                const float height = (y2 < bottom[at] ? y2 : bottom[at]) - (y1 > top[at] ? y1 : top[at]);
                const float shared = width * height;
                const float together = area + (right[at] - left[at]) * (bottom[at] - top[at]) - shared;
                float value = shared / (together > FLT_MIN ? together : FLT_MIN);
                if (record[i].class_id != classes[j]) value *= (float)other_class;
                const int strong = scores[j] >= (float)border;
                const float factor = strong ? (fuse ? scores[j] : 1.0f) : (float)low;
                const float by_track = strong ? strong_factor : weak_factor;
                if (!(value * factor * by_track > gate)) continue; /* heights can only lower it */
                if (shape) {
                    const double known = variance * w / h + measurement * measurement;
                    const double off = fabs(log(h) - log((double)(bottom[at] - top[at])));
                    const double loss = off * (shape / SHAPE_DEVIATIONS) / sqrt(known);
                    value -= (float)(value * (loss < shape ? loss : shape));
                }
                value = value * factor * by_track;
                if (!(value > gate)) continue;
                if (found == room) {
                    found = -1;
                    break;
                }
                disputed |= taken[j] || found > before;
                taken[j] = 1;
                rows[found] = i;
                columns[found] = j;
                worth[found++] = value;
            }
        }
    }
    if (disputed && found > 0) found = resolve(m, n, found, rows, columns, worth, gate);
    float left_over = -INFINITY; /* the highest score of a detection without a track */
    memset(taken, 0, n);
    for (Py_ssize_t k = 0; k < found; k++) taken[columns[k]] = 1;
    for (Py_ssize_t j = 0; j < n; j++)
        if (!taken[j] && scores[j] > left_over) left_over = scores[j];
    free(sides), free(taken), free(order);
    release(&b);
    return Py_BuildValue("nd", found, (double)left_over + 1e-6); /* for limits that single precision rounds */
}

static PyObject *correct(PyObject *self, PyObject *args) {
    PyObject *record_, *state_, *rows_, *columns_, *boxes_, *scores_, *classes_;
    long long stamp;
    double measurement, memory_of_classes;
    int young, votes;
    if (!PyArg_ParseTuple(args, "OOOOOOOLdidi", &record_, &state_, &rows_, &columns_, &boxes_, &scores_, &classes_,
                          &stamp, &measurement, &young, &memory_of_classes, &votes))
        return NULL;
    Buffers b = {.count = 0};
    TAKE_TRACKS(1);
    TAKE(rows, Py_ssize_t, rows_, -1, 0);
    const Py_ssize_t count = items(&b);
    TAKE(columns, Py_ssize_t, columns_, count, 0);
    TAKE_DETECTIONS;
    if (!inside(rows, count, m) || !inside(columns, count, n)) return refuse(&b, "rows or columns out of range");
    const double noise = measurement * measurement;
    const float most = (float)memory_of_classes;
    for (Py_ssize_t k = 0; k < count; k++) {
        const Py_ssize_t i = rows[k], j = columns[k];
        const float *p = boxes + 4 * j;
        const double at[4] = {0.5 * p[0] + 0.5 * p[2], 0.5 * p[1] + 0.5 * p[3], (double)p[2] - p[0],
                              (double)p[3] - p[1]};
        const double covariance = s[COVARIANCE * m + i], uncertain = s[VAR_POSITION * m + i] + noise;
        const double of_position = s[VAR_POSITION * m + i] / uncertain, of_velocity = covariance / uncertain;
        for (int c = 0; c < 4; c++) {
            const double surprise = at[c] - s[c * m + i];
            s[c * m + i] += of_position * surprise;
            s[(VELOCITY + c) * m + i] += of_velocity * surprise;
        }
        s[COVARIANCE * m + i] -= of_position * covariance;
        s[VAR_VELOCITY * m + i] -= of_velocity * covariance;
        s[VAR_POSITION * m + i] *= 1.0 - of_position;
        keep_upright(s, m, i);
        Record *r = record + i;
        r->seen = stamp;
        r->score = scores[j];
        if (young) {
            r->hits++;
            r->evidence += scores[j];
        }
        if (votes) { /* record.vote */
            const float saved = r->vote < most ? r->vote : most;
            const float vote = r->class_id == classes[j] ? saved + scores[j] : saved - scores[j];
            if (vote < 0) r->class_id = classes[j];
            r->vote = fabsf(vote) < most ? fabsf(vote) : most;
        }
    }
    release(&b);
    Py_RETURN_NONE;
}

static PyObject *settle(PyObject *self, PyObject *args) {
    PyObject *record_, *state_, *rows_;
    if (!PyArg_ParseTuple(args, "OOO", &record_, &state_, &rows_)) return NULL;
    Buffers b = {.count = 0};
    TAKE_TRACKS(1);
    TAKE(rows, Py_ssize_t, rows_, -1, 0);
    const Py_ssize_t count = items(&b);
    Py_ssize_t k = 0, again = 0;
    for (Py_ssize_t i = 0; i < m; i++) {
        if (k < count && rows[k] == i) { /* rows ascend */
            again += record[i].state == LOST;
            record[i].state = CONFIRMED;
            k++;
        } else {
            if (record[i].state == CONFIRMED) s[(VELOCITY + W) * m + i] = s[(VELOCITY + H) * m + i] = 0.0;
            record[i].state = LOST;
        }
    }
    release(&b);
    return PyLong_FromSsize_t(again);
}

static PyObject *shown(PyObject *self, PyObject *args) {
    PyObject *record_, *state_, *rows_, *chances_;
    double returning, least;
    if (!PyArg_ParseTuple(args, "OOddOO", &record_, &state_, &returning, &least, &rows_, &chances_)) return NULL;
    Buffers b = {.count = 0};
    TAKE_TRACKS(0);
    TAKE(rows, Py_ssize_t, rows_, m, 1);
    TAKE(chances, double, chances_, m, 1);
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < m; i++) {
        double chance = 1.0;
        if (record[i].state == LOST) {
            if (returning < least) continue;
            chance = returning * (1.0 - 2.0 * sqrt(s[VAR_POSITION * m + i]));
            if (!(chance >= least)) continue;
        } else if (record[i].state != CONFIRMED)
            continue;
        rows[count] = i;
        chances[count++] = chance;
    }
    release(&b);
    return PyLong_FromSsize_t(count);
}

static PyObject *report(PyObject *self, PyObject *args) {
    PyObject *record_, *state_, *rows_, *chances_, *boxes_, *scores_, *classes_, *ids_, *velocities_, *ages_, *states_;
    long long stamp;
    if (!PyArg_ParseTuple(args, "OOOOLOOOOOOO", &record_, &state_, &rows_, &chances_, &stamp, &boxes_, &scores_,
                          &classes_, &ids_, &velocities_, &ages_, &states_))
        return NULL;
    Buffers b = {.count = 0};
    TAKE_TRACKS(0);
    TAKE(rows, Py_ssize_t, rows_, -1, 0);
    const Py_ssize_t count = items(&b);
    TAKE(chances, double, chances_, count, 0);
    TAKE(boxes, float, boxes_, 4 * count, 1);
    TAKE(scores, float, scores_, count, 1);
    TAKE(classes, int64_t, classes_, count, 1);
    TAKE(ids, int64_t, ids_, count, 1);
    TAKE(velocities, float, velocities_, 2 * count, 1);
    TAKE(ages, float, ages_, count, 1);
    TAKE(states, uint8_t, states_, count, 1);
    if (!inside(rows, count, m)) return refuse(&b, "rows out of range");
    for (Py_ssize_t k = 0; k < count; k++) {
        const Py_ssize_t i = rows[k];
        const Record *r = record + i;
        for (int axis = 0; axis < 2; axis++) {
            const double centre = s[axis * m + i], half = 0.5 * s[(W + axis) * m + i];
            boxes[4 * k + axis] = (float)(centre - half);
            boxes[4 * k + 2 + axis] = (float)(centre + half);
            velocities[2 * k + axis] = (float)s[(VELOCITY + axis) * m + i];
        }
        scores[k] = (float)(r->score * chances[k]);
        classes[k] = r->class_id;
        ids[k] = r->id;
        ages[k] = (float)((double)(stamp - r->born) / NS_PER_S);
        states[k] = r->state;
    }
    release(&b);
    Py_RETURN_NONE;
}

static PyObject *layout(PyObject *self, PyObject *args) {
#define AT(field) offsetof(Record, field)
    return Py_BuildValue("nnnnnnnnnnnnn", (Py_ssize_t)sizeof(Record), AT(id), AT(born), AT(seen), AT(class_id), AT(hits),
                         AT(stalled), AT(score), AT(vote), AT(evidence), AT(box), AT(past), AT(state));
}

static PyMethodDef functions[] = {
    {"sound", sound, METH_VARARGS, NULL},     {"predict", predict, METH_VARARGS, NULL},
    {"pairs", pairs, METH_VARARGS, NULL},     {"correct", correct, METH_VARARGS, NULL},
    {"settle", settle, METH_VARARGS, NULL},   {"shown", shown, METH_VARARGS, NULL},
    {"report", report, METH_VARARGS, NULL},   {"layout", layout, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&module); }
