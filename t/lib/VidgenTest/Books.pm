package VidgenTest::Books;

# What the database says, for tests of results and money.
#
#   my $user = customer($pg, 10);             # a new user with 10 credits
#   is_deeply([wrong_books($pg)], [], 'the books are right');
#
#   my $before = everything($pg);
#   ...
#   is(everything($pg), $before, 'nothing changed');

use strict;
use warnings;

use Exporter qw(import);

use VidgenTest::Util qw(uuid);

our @EXPORT_OK = qw(balance customer everything ledger wrong_books);

my %start;                          # user => what customer() gave


sub customer {
    my ($pg, $credits) = @_;

    my $user = uuid();
    $start{$user} = $credits;
    $pg->query("INSERT INTO user_credits (user_id, balance)
        VALUES ('$user', $credits)");
    return $user;
}

sub balance {
    my ($pg, $user) = @_;
    return $pg->value("SELECT balance FROM user_credits
        WHERE user_id = '$user'");
}

# The ledger of a job, as "hold 3, refund 3".
sub ledger {
    my ($pg, $job) = @_;
    return $pg->value("SELECT coalesce(string_agg(entry || ' ' || amount, ', '
        ORDER BY entry), '') FROM vidgen.ledger WHERE job_id = '$job'");
}


# What must hold whatever has happened, and does not, as sentences: each job
# that has attempts has one hold, and a refund of the same amount exactly when
# it is failed; no refund is due; the balance of each customer() is what was
# given, less holds, plus refunds.
sub wrong_books {
    my ($pg) = @_;

    my @wrong = map { $_->[0] } @{ $pg->query(<<'SQL') };
SELECT format('job %s (%s, %s credits): %s', j.id, j.status, j.credits_used,
              coalesce(l.entries, 'no entry'))
  FROM video_jobs j
  LEFT JOIN (SELECT job_id, string_agg(entry || ' ' || amount
                                       || CASE WHEN refund_due THEN ' due'
                                               ELSE '' END, ', '
                                       ORDER BY entry) AS entries
               FROM vidgen.ledger GROUP BY job_id) l ON l.job_id = j.id
 WHERE j.credits_used > 0
   AND EXISTS (SELECT FROM vidgen.attempts a WHERE a.job_id = j.id)
   AND l.entries IS DISTINCT FROM
       CASE WHEN j.status = 'failed'
            THEN format('hold %1$s, refund %1$s', j.credits_used)
            ELSE format('hold %1$s', j.credits_used) END
UNION ALL
SELECT format('an entry without a job: %s %s', entry, job_id)
  FROM vidgen.ledger l
 WHERE NOT EXISTS (SELECT FROM video_jobs j WHERE j.id = l.job_id)
SQL

    my $balances = $pg->query(<<'SQL');
SELECT c.user_id, c.balance,
       coalesce(sum(CASE l.entry WHEN 'hold' THEN -l.amount
                                 ELSE l.amount END), 0)
  FROM user_credits c LEFT JOIN vidgen.ledger l ON l.user_id = c.user_id
 GROUP BY c.user_id, c.balance
SQL

    for my $row (@$balances) {
        my ($user, $balance, $moved) = @$row;
        next unless exists $start{$user};
        push @wrong, "user $user has $balance of $start{$user}, moved $moved"
            if $balance != $start{$user} + $moved;
    }

    return @wrong;
}


# All rows of all tables as text.
sub everything {
    my ($pg) = @_;

    my $select = $pg->value(<<'SQL');
SELECT string_agg(format('SELECT %L || '': '' || t::text FROM %s t',
                         c.oid::regclass, c.oid::regclass), ' UNION ALL ')
  FROM pg_class c
 WHERE c.relkind IN ('r', 'p')
   AND c.relnamespace IN ('public'::regnamespace, 'vidgen'::regnamespace)
SQL
    return join "\n", map { $_->[0] } @{ $pg->query("$select ORDER BY 1") };
}


1;
