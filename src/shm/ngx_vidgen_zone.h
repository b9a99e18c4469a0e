#ifndef _NGX_VIDGEN_ZONE_H_INCLUDED_
#define _NGX_VIDGEN_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * The shared zone.  It survives reloads, also one that fails afterwards, is
 * made anew when its size changes, and holds no pointer out of itself.
 * Inside: the seen set, provider health, the counters.
 */

typedef struct ngx_vidgen_zone_s  ngx_vidgen_zone_t;

#define NGX_VIDGEN_ZONE_MIN_SIZE  (8 * ngx_pagesize)


/*
 * While the configuration loads: asks for a zone of that name and size in
 * bytes; tag is the module.  The handle is filled when nginx maps the zone,
 * before any worker starts.  NULL: no memory or a conflict (logged).
 */
ngx_vidgen_zone_t *ngx_vidgen_zone_add(ngx_conf_t *cf, ngx_str_t *name,
    size_t size, void *tag);

/*
 * Tells the zone which database history a connection sees.  If it is another
 * than before (a promotion, a restore), the done entries are dropped, since
 * a commit that the zone believes in may be gone.  Returns 1 if it was so.
 */
ngx_uint_t ngx_vidgen_zone_history(ngx_vidgen_zone_t *zone,
    ngx_str_t *system_identifier, ngx_uint_t timeline);


#endif /* _NGX_VIDGEN_ZONE_H_INCLUDED_ */
