#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_seen.h"
#include "shm/ngx_vidgen_seen_set.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


/* abandoned claims that a claim of a new key clears away at most */
#define NGX_VIDGEN_SEEN_EXPIRE  2

/* each process reads its clock on its own, so it may be a bit behind */
#define ngx_vidgen_seen_abandoned(entry)                                      \
    ((ngx_msec_int_t) (ngx_current_msec - (entry)->time) >= 0)


static ngx_vidgen_seen_entry_t *ngx_vidgen_seen_claimable(
    ngx_vidgen_seen_set_t *set, u_char *key, ngx_vidgen_seen_entry_t *entry);
static void ngx_vidgen_seen_expire(ngx_vidgen_seen_set_t *set);
static ngx_int_t ngx_vidgen_seen_hit(ngx_vidgen_zone_t *zone,
    ngx_vidgen_seen_entry_t *entry, ngx_vidgen_seen_value_t *value);


ngx_int_t
ngx_vidgen_seen_claim(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_msec_t lease_ms,
    ngx_vidgen_seen_value_t *value, ngx_vidgen_seen_claim_t *claim)
{
    ngx_vidgen_seen_set_t    *set;
    ngx_vidgen_seen_entry_t  *entry;

    set = &zone->sh->seen;

    ngx_vidgen_zone_lock(zone);

    claim->serial = 0;
    claim->epoch = set->epoch;

    entry = ngx_vidgen_seen_set_find(set, key);
    claim->taken = (entry != NULL);

    if (ngx_vidgen_seen_hit(zone, entry, value) == NGX_OK) {
        ngx_vidgen_zone_unlock(zone);
        return NGX_OK;
    }

    ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_SEEN);

    entry = ngx_vidgen_seen_claimable(set, key, entry);

    if (entry) {

        if (++set->serial == 0) {
            set->serial = 1;
        }

        entry->serial = set->serial;
        entry->time = ngx_current_msec + lease_ms;

        claim->serial = set->serial;
    }

    ngx_vidgen_zone_unlock(zone);

    return entry ? NGX_DECLINED : NGX_BUSY;
}


static ngx_vidgen_seen_entry_t *
ngx_vidgen_seen_claimable(ngx_vidgen_seen_set_t *set, u_char *key,
    ngx_vidgen_seen_entry_t *entry)
{
    if (entry == NULL) {
        ngx_vidgen_seen_expire(set);
        return ngx_vidgen_seen_set_add(set, key);
    }

    if (!ngx_vidgen_seen_abandoned(entry)) {
        return NULL;
    }

    ngx_vidgen_seen_set_move(set, entry, NGX_VIDGEN_SEEN_CLAIMED);

    return entry;
}


/*
 * Claims whose owner died or forgot them.  The queue is in the order of
 * claiming, so one with a longer lease may hide those behind it for a while.
 */

static void
ngx_vidgen_seen_expire(ngx_vidgen_seen_set_t *set)
{
    ngx_uint_t                n;
    ngx_queue_t              *q;
    ngx_vidgen_seen_entry_t  *entry;

    for (n = 0; n < NGX_VIDGEN_SEEN_EXPIRE; n++) {

        if (ngx_queue_empty(&set->claimed)) {
            return;
        }

        q = ngx_queue_last(&set->claimed);
        entry = ngx_queue_data(q, ngx_vidgen_seen_entry_t, queue);

        if (!ngx_vidgen_seen_abandoned(entry)) {
            return;
        }

        ngx_vidgen_seen_set_drop(set, entry);
    }
}


ngx_int_t
ngx_vidgen_seen_peek(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_value_t *value,
    ngx_vidgen_seen_claim_t *claim)
{
    ngx_int_t                 rc;
    ngx_vidgen_seen_entry_t  *entry;

    ngx_vidgen_zone_lock(zone);

    claim->serial = 0;
    claim->epoch = zone->sh->seen.epoch;

    entry = ngx_vidgen_seen_set_find(&zone->sh->seen, key);
    rc = ngx_vidgen_seen_hit(zone, entry, value);

    ngx_vidgen_zone_unlock(zone);

    return rc;
}


/* NGX_OK if the entry is done: it gives its value and lives longer. */

static ngx_int_t
ngx_vidgen_seen_hit(ngx_vidgen_zone_t *zone, ngx_vidgen_seen_entry_t *entry,
    ngx_vidgen_seen_value_t *value)
{
    ngx_msec_int_t          ms;
    ngx_vidgen_seen_set_t  *set;

    if (entry == NULL || entry->state != NGX_VIDGEN_SEEN_DONE) {
        return NGX_DECLINED;
    }

    set = &zone->sh->seen;

    if (ngx_queue_head(&set->done) != &entry->queue) {
        ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_SEEN);
        ngx_vidgen_seen_set_move(set, entry, NGX_VIDGEN_SEEN_DONE);
    }

    ms = (ngx_msec_int_t) (ngx_current_msec - entry->time);

    *value = entry->value;
    value->age = (ms > 0) ? ms / 1000 : 0;

    return NGX_OK;
}


void
ngx_vidgen_seen_done(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_value_t *value,
    ngx_vidgen_seen_claim_t *claim)
{
    ngx_vidgen_seen_set_t    *set;
    ngx_vidgen_seen_entry_t  *entry;

    set = &zone->sh->seen;

    ngx_vidgen_zone_lock(zone);

    /* emptied in between: the commit may belong to a history that is lost */

    if (claim->epoch == set->epoch) {
        ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_SEEN);

        entry = ngx_vidgen_seen_set_find(set, key);

        if (entry == NULL) {
            entry = ngx_vidgen_seen_set_add(set, key);
        }

        if (entry) {
            ngx_vidgen_seen_set_move(set, entry, NGX_VIDGEN_SEEN_DONE);
            entry->value = *value;
            entry->time = ngx_current_msec;
        }
    }

    ngx_vidgen_zone_unlock(zone);

    claim->serial = 0;
}


void
ngx_vidgen_seen_release(ngx_vidgen_zone_t *zone,
    u_char key[NGX_VIDGEN_SEEN_KEY_LEN], ngx_vidgen_seen_claim_t *claim)
{
    ngx_vidgen_seen_set_t    *set;
    ngx_vidgen_seen_entry_t  *entry;

    if (claim->serial == 0) {
        return;
    }

    set = &zone->sh->seen;

    ngx_vidgen_zone_lock(zone);

    entry = ngx_vidgen_seen_set_find(set, key);

    if (entry && entry->state == NGX_VIDGEN_SEEN_CLAIMED
        && entry->serial == claim->serial)
    {
        ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_SEEN);
        ngx_vidgen_seen_set_drop(set, entry);
    }

    ngx_vidgen_zone_unlock(zone);

    claim->serial = 0;
}


void
ngx_vidgen_seen_stat(ngx_vidgen_zone_t *zone, ngx_vidgen_seen_stat_t *stat)
{
    ngx_vidgen_zone_lock(zone);

    *stat = zone->sh->seen.stat;

    ngx_vidgen_zone_unlock(zone);
}
