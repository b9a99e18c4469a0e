#ifndef _NGX_VIDGEN_ZONE_INT_H_INCLUDED_
#define _NGX_VIDGEN_ZONE_INT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_health.h"
#include "shm/ngx_vidgen_metric.h"
#include "shm/ngx_vidgen_relay.h"
#include "shm/ngx_vidgen_seen_set.h"
#include "shm/ngx_vidgen_zone.h"


/*
 * The inside of the zone, for the files of this folder.  Pointers in it are
 * to places in it: every process has it mapped at the same address.
 *
 * One block, taken from the slab pool when the zone is made:
 * ngx_vidgen_zone_sh_t, the health records, the entries of the seen set.
 */

/* what the workers and the monitor tell one another about a provider */
typedef struct {
    int64_t                      asked;      /* ms since the epoch: somebody
                                                wants a probe */
    int64_t                      started;    /* the last probe */
    time_t                       keys_asked; /* somebody wants the key set */
    uint32_t                     keys;       /* version of the key set */
    uint32_t                     asks;       /* for a probe, ever: clocks may
                                                be set back */
    uint32_t                     heard;      /* of those, by the last probe */
    ngx_vidgen_relay_alert_t     alert;
} ngx_vidgen_relay_record_t;

typedef struct {
    u_char                       len;        /* 0: the record is free */
    u_char                       name[63];
    ngx_uint_t                   passes;     /* in a row */
    time_t                       used;       /* when it was last written */
    ngx_vidgen_health_t          health;
    time_t                       trial;      /* of a down one, the last */
    ngx_vidgen_relay_record_t    relay;
} ngx_vidgen_health_record_t;

typedef struct {
    uint32_t                     magic;
    uint32_t                     layout;
    ngx_atomic_t                 dirty;
    ngx_vidgen_seen_set_t        seen;
    ngx_vidgen_health_record_t  *records;
    ngx_uint_t                   nrecords;
    ngx_uint_t                   timeline;
    u_char                       system_len; /* 0: no history known yet */
    u_char                       system[31];
    ngx_atomic_t                 monitor;    /* its process */
    time_t                       beat;       /* of the monitor; 0: none yet */
    ngx_atomic_t                 missed;     /* its silence was reported */
    ngx_uint_t                   changes;    /* by live traffic, ever */
    ngx_uint_t                   noted;      /* of those */
    ngx_vidgen_relay_change_t    change[NGX_VIDGEN_RELAY_CHANGES];
    ngx_atomic_t                 metrics[NGX_VIDGEN_METRICS];
} ngx_vidgen_zone_sh_t;

struct ngx_vidgen_zone_s {
    ngx_vidgen_zone_sh_t        *sh;
    ngx_slab_pool_t             *shpool;
};


/* what is being changed: the n-th health record is DIRTY_HEALTH + n */
#define NGX_VIDGEN_DIRTY_SEEN    1
#define NGX_VIDGEN_DIRTY_HEALTH  2

/*
 * Locks the zone.  If its last owner died within a change, the seen set is
 * emptied and the health record that was being written is forgotten.
 */
void ngx_vidgen_zone_lock(ngx_vidgen_zone_t *zone);

/* Before the first change under the lock; unlocking ends it. */
void ngx_vidgen_zone_dirty(ngx_vidgen_zone_t *zone, ngx_uint_t what);

void ngx_vidgen_zone_unlock(ngx_vidgen_zone_t *zone);


/* ngx_vidgen_health_record.c: the records, under the lock */

/* NULL: there is none */
ngx_vidgen_health_record_t *ngx_vidgen_health_find(ngx_vidgen_zone_sh_t *sh,
    ngx_str_t *provider);

/*
 * Copies the provider's record, or a blank one with its name, and returns
 * where it is to be stored.  Where no record is free it is that of the
 * provider nothing was heard of for the longest time: reloads leave records
 * of providers that are configured no more.
 */
ngx_vidgen_health_record_t *ngx_vidgen_health_open(ngx_vidgen_zone_sh_t *sh,
    ngx_str_t *provider, ngx_vidgen_health_record_t *copy);

/* record may be NULL: nothing is stored */
void ngx_vidgen_health_store(ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_record_t *record, ngx_vidgen_health_record_t *copy);


/*
 * ngx_vidgen_relay.c, under the lock: keeps for the monitor what live traffic
 * has made of a provider.
 */
void ngx_vidgen_relay_note(ngx_vidgen_zone_sh_t *sh,
    ngx_vidgen_health_record_t *record);


#endif /* _NGX_VIDGEN_ZONE_INT_H_INCLUDED_ */
