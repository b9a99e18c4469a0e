#include <ngx_config.h>
#include <ngx_core.h>
#include "shm/ngx_vidgen_seen_set.h"
#include "shm/ngx_vidgen_zone.h"
#include "shm/ngx_vidgen_zone_int.h"


#define NGX_VIDGEN_ZONE_MAGIC    0x76696467

/*
 * The version goes up when a field changes its meaning and not its place; the
 * sizes take care of the rest.
 */
#define NGX_VIDGEN_ZONE_VERSION  1
#define NGX_VIDGEN_ZONE_LAYOUT                                                \
    (NGX_VIDGEN_ZONE_VERSION << 24                                            \
     | sizeof(ngx_vidgen_health_record_t) / 8 << 16                           \
     | sizeof(ngx_vidgen_zone_sh_t))

_Static_assert(sizeof(ngx_vidgen_health_record_t) % 8 == 0
               && sizeof(ngx_vidgen_health_record_t) < 256 * 8
               && sizeof(ngx_vidgen_zone_sh_t) < 65536,
               "the layout word has no room");

#define NGX_VIDGEN_ZONE_RECORDS  256
#define NGX_VIDGEN_ZONE_ALIGN    64      /* a line of the processor's cache */


static void ngx_vidgen_zone_reuse(ngx_cycle_t *cycle,
    ngx_shm_zone_t *shm_zone);
static ngx_int_t ngx_vidgen_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static void ngx_vidgen_zone_layout(ngx_vidgen_zone_sh_t *sh, size_t size);
static void ngx_vidgen_zone_recover(ngx_vidgen_zone_sh_t *sh);


ngx_vidgen_zone_t *
ngx_vidgen_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size, void *tag)
{
    ngx_shm_zone_t     *shm_zone;
    ngx_vidgen_zone_t  *zone;

    if (size < NGX_VIDGEN_ZONE_MIN_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "vidgen: zone \"%V\" is too small, it needs %uz "
                           "bytes", name,
                           (size_t) NGX_VIDGEN_ZONE_MIN_SIZE);
        return NULL;
    }

    shm_zone = ngx_shared_memory_add(cf, name, size, tag);
    if (shm_zone == NULL) {
        return NULL;
    }

    if (shm_zone->data) {
        return shm_zone->data;
    }

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    shm_zone->data = zone;
    shm_zone->init = ngx_vidgen_zone_init;

    ngx_vidgen_zone_reuse(cf->cycle->old_cycle, shm_zone);

    return zone;
}


/*
 * A zone that another version laid out cannot be made anew in its place,
 * because the old workers go on with it: nginx is told to take a new one.  It
 * believes the mark only if the old zone and the new one agree in it.
 */

static void
ngx_vidgen_zone_reuse(ngx_cycle_t *cycle, ngx_shm_zone_t *shm_zone)
{
    ngx_uint_t             i;
    ngx_shm_zone_t        *old;
    ngx_list_part_t       *part;
    ngx_slab_pool_t       *shpool;
    ngx_vidgen_zone_sh_t  *sh;

    for (part = &cycle->shared_memory.part; part; part = part->next) {
        old = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (old[i].tag != shm_zone->tag
                || old[i].shm.name.len != shm_zone->shm.name.len
                || ngx_strncmp(old[i].shm.name.data, shm_zone->shm.name.data,
                               shm_zone->shm.name.len)
                   != 0)
            {
                continue;
            }

            shpool = (ngx_slab_pool_t *) old[i].shm.addr;
            sh = shpool->data;

            shm_zone->noreuse = sh->magic != NGX_VIDGEN_ZONE_MAGIC
                                || sh->layout != NGX_VIDGEN_ZONE_LAYOUT;
            old[i].noreuse = shm_zone->noreuse;

            return;
        }
    }
}


static ngx_int_t
ngx_vidgen_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    size_t                 size;
    ngx_slab_pool_t       *shpool;
    ngx_vidgen_zone_t     *zone;
    ngx_vidgen_zone_sh_t  *sh;

    zone = shm_zone->data;
    shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    zone->shpool = shpool;

    if (data || shm_zone->shm.exists) {

        /*
         * A reload that may still fail: nothing in the zone depends on the
         * configuration, so there is nothing to change.
         */

        zone->sh = shpool->data;
        return NGX_OK;
    }

    /* all that the new pool has is one run of free pages */

    size = shpool->pfree * ngx_pagesize;

    sh = ngx_slab_alloc(shpool, size);
    if (sh == NULL) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "vidgen: no memory in zone \"%V\"",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    ngx_vidgen_zone_layout(sh, size);

    shpool->data = sh;
    zone->sh = sh;

    return NGX_OK;
}


static void
ngx_vidgen_zone_layout(ngx_vidgen_zone_sh_t *sh, size_t size)
{
    u_char      *p, *end;
    ngx_uint_t   n;

    p = (u_char *) sh;
    end = p + size;

    ngx_memzero(sh, sizeof(ngx_vidgen_zone_sh_t));

    p = ngx_align_ptr(p + sizeof(ngx_vidgen_zone_sh_t),
                      NGX_VIDGEN_ZONE_ALIGN);

    /* an eighth at most, so that a small zone has room for the seen set */

    n = size / 8 / sizeof(ngx_vidgen_health_record_t);

    sh->nrecords = ngx_min(n, NGX_VIDGEN_ZONE_RECORDS);
    sh->records = (ngx_vidgen_health_record_t *) p;

    n = sh->nrecords * sizeof(ngx_vidgen_health_record_t);
    ngx_memzero(p, n);

    p = ngx_align_ptr(p + n, NGX_VIDGEN_ZONE_ALIGN);

    ngx_vidgen_seen_set_init(&sh->seen, p, end - p);

    sh->magic = NGX_VIDGEN_ZONE_MAGIC;
    sh->layout = NGX_VIDGEN_ZONE_LAYOUT;
}


ngx_uint_t
ngx_vidgen_zone_history(ngx_vidgen_zone_t *zone, ngx_str_t *system_identifier,
    ngx_uint_t timeline)
{
    size_t                 len;
    ngx_uint_t             changed;
    ngx_vidgen_zone_sh_t  *sh;

    sh = zone->sh;
    len = ngx_min(system_identifier->len, sizeof(sh->system));

    ngx_vidgen_zone_lock(zone);

    if (sh->timeline == timeline && sh->system_len == len
        && ngx_memcmp(sh->system, system_identifier->data, len) == 0)
    {
        ngx_vidgen_zone_unlock(zone);
        return 0;
    }

    changed = sh->system_len != 0;

    ngx_vidgen_zone_dirty(zone, NGX_VIDGEN_DIRTY_SEEN);

    if (changed) {
        ngx_vidgen_seen_set_reset(&sh->seen);
    }

    ngx_memcpy(sh->system, system_identifier->data, len);
    sh->system_len = len;
    sh->timeline = timeline;

    ngx_vidgen_zone_unlock(zone);

    return changed;
}


/*
 * This mutex and no other: it is the one that nginx's master unlocks when a
 * process dies with it.
 */

void
ngx_vidgen_zone_lock(ngx_vidgen_zone_t *zone)
{
    ngx_shmtx_lock(&zone->shpool->mutex);

    if (zone->sh->dirty) {
        ngx_vidgen_zone_recover(zone->sh);
    }
}


static void
ngx_vidgen_zone_recover(ngx_vidgen_zone_sh_t *sh)
{
    ngx_uint_t  n;

    /* the word stays: should this process die here too, the next one does it */

    ngx_vidgen_seen_set_reset(&sh->seen);

    if (sh->dirty >= NGX_VIDGEN_DIRTY_HEALTH) {
        n = sh->dirty - NGX_VIDGEN_DIRTY_HEALTH;
        ngx_memzero(&sh->records[n], sizeof(ngx_vidgen_health_record_t));
    }

    ngx_memory_barrier();
    sh->dirty = 0;
}


void
ngx_vidgen_zone_dirty(ngx_vidgen_zone_t *zone, ngx_uint_t what)
{
    zone->sh->dirty = what;
    ngx_memory_barrier();
}


void
ngx_vidgen_zone_unlock(ngx_vidgen_zone_t *zone)
{
    ngx_memory_barrier();
    zone->sh->dirty = 0;

    ngx_shmtx_unlock(&zone->shpool->mutex);
}
