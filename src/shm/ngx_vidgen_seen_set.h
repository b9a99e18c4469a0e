#ifndef _NGX_VIDGEN_SEEN_SET_H_INCLUDED_
#define _NGX_VIDGEN_SEEN_SET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_seen.h"


/*
 * The container of the seen set, for the files of this folder.  Its callers
 * hold the zone's lock and have marked it dirty, but for a look-up.
 */

#define NGX_VIDGEN_SEEN_DONE     1
#define NGX_VIDGEN_SEEN_CLAIMED  2

/* the tree's key is the first part of the key, here is what follows it */
#define NGX_VIDGEN_SEEN_REST                                                  \
    (NGX_VIDGEN_SEEN_KEY_LEN - sizeof(ngx_rbtree_key_t))

/* a look-up touches the first 64 bytes of an entry only */
typedef struct {
    ngx_rbtree_node_t         node;
    ngx_queue_t               queue;     /* of done, claimed or free ones */
    u_char                    rest[NGX_VIDGEN_SEEN_REST];
    ngx_vidgen_seen_value_t   value;     /* of a done one */
    ngx_msec_t                time;      /* done: since; claimed: until */
    uint32_t                  serial;    /* of its claim */
    uint8_t                   state;
} ngx_vidgen_seen_entry_t;

_Static_assert(sizeof(ngx_vidgen_seen_entry_t) <= 128,
               "an entry of the seen set has 128 bytes at most");

typedef struct {
    ngx_rbtree_node_t        *root;      /* no ngx_rbtree_t: it holds the
                                            address of a function */
    ngx_rbtree_node_t         sentinel;
    ngx_queue_t               done;      /* last used first */
    ngx_queue_t               claimed;   /* last claimed first */
    ngx_queue_t               free;
    ngx_vidgen_seen_entry_t  *entries;
    ngx_uint_t                fresh;     /* index of the first never used */
    ngx_vidgen_seen_stat_t    stat;
    uint32_t                  serial;    /* of the last claim */
    uint32_t                  epoch;     /* changes when the set is emptied */
} ngx_vidgen_seen_set_t;


/* Makes the set in the memory from p on, which is aligned, size bytes. */
void ngx_vidgen_seen_set_init(ngx_vidgen_seen_set_t *set, u_char *p,
    size_t size);

/*
 * Empties the set and counts that.  In constant time and without a look at
 * what is there, so it works on a broken set.
 */
void ngx_vidgen_seen_set_reset(ngx_vidgen_seen_set_t *set);

/* NULL: not there */
ngx_vidgen_seen_entry_t *ngx_vidgen_seen_set_find(ngx_vidgen_seen_set_t *set,
    u_char *key);

/*
 * Adds key, which is not there, as claimed; the oldest done entry makes room
 * where no other is left.  NULL: all are claimed.
 */
ngx_vidgen_seen_entry_t *ngx_vidgen_seen_set_add(ngx_vidgen_seen_set_t *set,
    u_char *key);

/* To that state, as the latest in it. */
void ngx_vidgen_seen_set_move(ngx_vidgen_seen_set_t *set,
    ngx_vidgen_seen_entry_t *entry, ngx_uint_t state);

void ngx_vidgen_seen_set_drop(ngx_vidgen_seen_set_t *set,
    ngx_vidgen_seen_entry_t *entry);


#endif /* _NGX_VIDGEN_SEEN_SET_H_INCLUDED_ */
