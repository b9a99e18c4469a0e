#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_seen_set.h"


static ngx_vidgen_seen_entry_t *ngx_vidgen_seen_set_take(
    ngx_vidgen_seen_set_t *set);
static void ngx_vidgen_seen_set_tree(ngx_vidgen_seen_set_t *set,
    ngx_rbtree_t *tree);
static ngx_int_t ngx_vidgen_seen_set_compare(ngx_rbtree_key_t first,
    u_char *rest, ngx_rbtree_node_t *node);
static void ngx_vidgen_seen_set_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);


void
ngx_vidgen_seen_set_init(ngx_vidgen_seen_set_t *set, u_char *p, size_t size)
{
    ngx_memzero(set, sizeof(ngx_vidgen_seen_set_t));

    set->entries = (ngx_vidgen_seen_entry_t *) p;
    set->stat.capacity = size / sizeof(ngx_vidgen_seen_entry_t);

    ngx_vidgen_seen_set_reset(set);

    set->stat.resets = 0;
}


void
ngx_vidgen_seen_set_reset(ngx_vidgen_seen_set_t *set)
{
    ngx_rbtree_sentinel_init(&set->sentinel);
    set->root = &set->sentinel;

    ngx_queue_init(&set->done);
    ngx_queue_init(&set->claimed);
    ngx_queue_init(&set->free);

    /* serial goes on: no old claim may meet a new one of its number */

    set->fresh = 0;
    set->epoch++;
    set->stat.used = 0;
    set->stat.in_flight = 0;
    set->stat.resets++;
}


ngx_vidgen_seen_entry_t *
ngx_vidgen_seen_set_find(ngx_vidgen_seen_set_t *set, u_char *key)
{
    u_char             *rest;
    ngx_int_t           rc;
    ngx_rbtree_key_t    first;
    ngx_rbtree_node_t  *node;

    ngx_memcpy(&first, key, sizeof(ngx_rbtree_key_t));
    rest = key + sizeof(ngx_rbtree_key_t);

    node = set->root;

    while (node != &set->sentinel) {
        rc = ngx_vidgen_seen_set_compare(first, rest, node);

        if (rc == 0) {
            return (ngx_vidgen_seen_entry_t *) node;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


ngx_vidgen_seen_entry_t *
ngx_vidgen_seen_set_add(ngx_vidgen_seen_set_t *set, u_char *key)
{
    ngx_rbtree_t              tree;
    ngx_vidgen_seen_entry_t  *entry;

    entry = ngx_vidgen_seen_set_take(set);
    if (entry == NULL) {
        return NULL;
    }

    ngx_memcpy(&entry->node.key, key, sizeof(ngx_rbtree_key_t));
    ngx_memcpy(entry->rest, key + sizeof(ngx_rbtree_key_t),
               NGX_VIDGEN_SEEN_REST);

    ngx_vidgen_seen_set_tree(set, &tree);
    ngx_rbtree_insert(&tree, &entry->node);
    set->root = tree.root;

    entry->state = NGX_VIDGEN_SEEN_CLAIMED;
    ngx_queue_insert_head(&set->claimed, &entry->queue);

    set->stat.used++;
    set->stat.in_flight++;

    return entry;
}


static ngx_vidgen_seen_entry_t *
ngx_vidgen_seen_set_take(ngx_vidgen_seen_set_t *set)
{
    ngx_queue_t              *q;
    ngx_vidgen_seen_entry_t  *entry;

    if (ngx_queue_empty(&set->free)) {

        if (set->fresh < set->stat.capacity) {
            return &set->entries[set->fresh++];
        }

        if (ngx_queue_empty(&set->done)) {
            return NULL;
        }

        q = ngx_queue_last(&set->done);
        entry = ngx_queue_data(q, ngx_vidgen_seen_entry_t, queue);

        ngx_vidgen_seen_set_drop(set, entry);
        set->stat.evictions++;
    }

    q = ngx_queue_head(&set->free);
    ngx_queue_remove(q);

    return ngx_queue_data(q, ngx_vidgen_seen_entry_t, queue);
}


void
ngx_vidgen_seen_set_move(ngx_vidgen_seen_set_t *set,
    ngx_vidgen_seen_entry_t *entry, ngx_uint_t state)
{
    ngx_queue_remove(&entry->queue);

    if (state == NGX_VIDGEN_SEEN_DONE) {
        ngx_queue_insert_head(&set->done, &entry->queue);

    } else {
        ngx_queue_insert_head(&set->claimed, &entry->queue);
    }

    set->stat.in_flight += (state == NGX_VIDGEN_SEEN_CLAIMED);
    set->stat.in_flight -= (entry->state == NGX_VIDGEN_SEEN_CLAIMED);

    entry->state = state;
}


void
ngx_vidgen_seen_set_drop(ngx_vidgen_seen_set_t *set,
    ngx_vidgen_seen_entry_t *entry)
{
    ngx_rbtree_t  tree;

    ngx_vidgen_seen_set_tree(set, &tree);
    ngx_rbtree_delete(&tree, &entry->node);
    set->root = tree.root;

    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_head(&set->free, &entry->queue);

    set->stat.used--;
    set->stat.in_flight -= (entry->state == NGX_VIDGEN_SEEN_CLAIMED);
}


static void
ngx_vidgen_seen_set_tree(ngx_vidgen_seen_set_t *set, ngx_rbtree_t *tree)
{
    tree->root = set->root;
    tree->sentinel = &set->sentinel;
    tree->insert = ngx_vidgen_seen_set_insert;
}


static ngx_int_t
ngx_vidgen_seen_set_compare(ngx_rbtree_key_t first, u_char *rest,
    ngx_rbtree_node_t *node)
{
    ngx_vidgen_seen_entry_t  *entry;

    if (first != node->key) {
        return (first < node->key) ? -1 : 1;
    }

    entry = (ngx_vidgen_seen_entry_t *) node;

    return ngx_memcmp(rest, entry->rest, NGX_VIDGEN_SEEN_REST);
}


static void
ngx_vidgen_seen_set_insert(ngx_rbtree_node_t *temp, ngx_rbtree_node_t *node,
    ngx_rbtree_node_t *sentinel)
{
    ngx_int_t                  rc;
    ngx_rbtree_node_t        **place;
    ngx_vidgen_seen_entry_t   *entry;

    entry = (ngx_vidgen_seen_entry_t *) node;

    for ( ;; ) {
        rc = ngx_vidgen_seen_set_compare(node->key, entry->rest, temp);

        place = (rc < 0) ? &temp->left : &temp->right;

        if (*place == sentinel) {
            break;
        }

        temp = *place;
    }

    *place = node;

    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;

    ngx_rbt_red(node);
}
