#!/usr/bin/perl

# vidgen_idempotency required, and a ttl after which a key may be used anew.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 8;

use VidgenTest::Books qw(customer everything wrong_books);
use VidgenTest::Edge;
use VidgenTest::Http qw(post);
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(wait_for);

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

my $nginx = VidgenTest::Edge->new(
    db       => $pg->edge_conninfo,
    database => 'timeout=1m',
    http     => 'vidgen_idempotency required ttl=1s;',
    fal      => $provider)->start;

my $user = customer($pg, 10);
my @order = ($nginx->url('/generate-video'),
    { user_id => $user, model_id => 'vision-1', prompt => 'p' });

my $before = everything($pg);
my $answer = post(@order);
is("$answer->{status} $answer->{json}{code}", '400 bad_idempotency_key',
    'none');
is(everything($pg), $before, 'nothing is written');

my %key = ('Idempotency-Key' => 'k');
my $first = post(@order, \%key);
is($first->{status}, 200, 'one');

# an open job keeps its key, however long it takes

$pg->query("UPDATE idempotency_log SET created_at = created_at
    - interval '1 day'; UPDATE video_jobs SET created_at = created_at
    - interval '1 day'");
is(post(@order, \%key)->{body}, $first->{body}, 'it is kept while open');

my ($headers, $body) = $provider->signed_webhook(
    id => $provider->requests->[0]{id});
is(post($nginx->url('/video-webhook'), $body, $headers)->{status}, 200,
    'completed');

my $second = wait_for {
    my $now = post(@order, \%key);
    return $now->{body} ne $first->{body} && $now;
};
is($second->{status}, 200, 'a second later the key makes another job');
ok(!$second->{headers}{'x-idempotent-replay'}, 'which is no replay');

is_deeply([wrong_books($pg)], [], 'the books are right');
